import MoEReport

/// The drawing of the step times of splits, as bars of stages.
struct StepBars {
  let predictions: [Prediction]
  let top: Double
  private let step = 26.0

  var bottom: Double { top + 20 + Double(predictions.count) * step + 18 }

  var markup: String {
    let axis = Axis.fromZero(upTo: predictions.map(\.seconds).max()!)
    let width = Canvas.right - Canvas.left
    let shown = StageGroup.allCases.enumerated().filter { _, group in
      predictions.contains { StageGroup.seconds($0.stages).contains { $0.group == group && $0.seconds > 0 } }
    }
    let bars = predictions.enumerated().map { index, prediction in
      let y = top + 20 + Double(index) * step
      var start = 0.0
      let boxes = StageGroup.seconds(prediction.stages).enumerated().map { color, part in
        defer { start += part.seconds }
        return part.seconds == 0
          ? ""
          : Canvas.box(
            x: Canvas.left + axis.position(start) * width, y: y, width: axis.position(part.seconds) * width,
            height: 18, color: color, title: "\(part.group.rawValue) \(formatted(seconds: part.seconds))")
      }
      return Canvas.text(
        "\(prediction.split)", x: Canvas.left - 10, y: y + 14, style: index == 0 ? "head end" : "end")
        + boxes.joined()
        + Canvas.text(
          formatted(seconds: prediction.seconds),
          x: Canvas.left + axis.position(prediction.seconds) * width + 8, y: y + 14, style: "muted")
    }
    return Canvas.text("Time per step", x: Canvas.margin, y: top - 22, style: "head")
      + Canvas.legend(shown.map { ($0.element.rawValue, $0.offset) }, y: top)
      + Canvas.ticks(axis, top: top + 14, bottom: bottom - 18) + bars.joined()
  }
}
