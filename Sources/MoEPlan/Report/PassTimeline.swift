import MoEReport

/// The drawing of the forward and the backward pass over the first layer: the work of the cores of the rank that
/// computes longest, and of its host's link, over time.
struct PassTimeline {
  let prediction: Prediction
  let top: Double

  var bottom: Double { top + 150 }

  var markup: String {
    let (forward, backward) = (prediction.timeline.forward, prediction.timeline.backward)
    let middle = forward.map(\.end).max() ?? 0
    let gap = middle * 0.04
    let end = max(middle, (backward.map(\.end).max() ?? 0) + (backward.isEmpty ? 0 : middle + gap))
    let axis = Axis(0, end)
    let y = [TimelineSpan.Lane.cores: top + 40, .link: top + 76]
    func boxes(_ spans: [TimelineSpan], from start: Double) -> String {
      spans.map { box($0, x: axis, from: start, y: y[$0.lane]!) }.joined()
    }
    let kinds = TimelineSpan.Kind.allCases.filter { kind in
      (forward + backward).contains { $0.kind == kind }
    }
    let boundary = Canvas.left + axis.position(middle + gap / 2) * (Canvas.right - Canvas.left)
    return Canvas.text(
      "One layer of \(prediction.split): forward\(backward.isEmpty ? "" : ", then backward")",
      x: Canvas.margin,
      y: top - 16, style: "head")
      + Canvas.legend(kinds.map { (Self.name($0), Self.color($0)) }, y: top + 6)
      + Canvas.ticks(axis, top: top + 34, bottom: top + 112)
      + Canvas.text("cores of a rank", x: Canvas.left - 10, y: y[.cores]! + 19, style: "end")
      + Canvas.text("link of its host", x: Canvas.left - 10, y: y[.link]! + 19, style: "end")
      + boxes(forward, from: 0) + boxes(backward, from: middle + gap)
      + (backward.isEmpty
        ? ""
        : element(
          "path",
          ["class": "rule", "d": "M\(coordinate(boundary)) \(coordinate(top + 30))V\(coordinate(top + 112))"]))
  }

  private func box(_ span: TimelineSpan, x axis: Axis, from start: Double, y: Double) -> String {
    let width = Canvas.right - Canvas.left
    let x = Canvas.left + axis.position(start + span.start) * width
    let length = axis.position(span.end - span.start) * width
    let number =
      prediction.split.overlap > 1 && length > 14 && span.kind != .gradients
      ? Canvas.text("\(span.slice + 1)", x: x + length / 2, y: y + 18, style: "inside") : ""
    return Canvas.box(
      x: x, y: y, width: max(length - (length > 3 ? 1 : 0), 0.5), height: 28, color: Self.color(span.kind),
      title: "\(Self.name(span.kind)), slice \(span.slice + 1): \(formatted(seconds: span.end - span.start))")
      + number
  }

  private static func name(_ kind: TimelineSpan.Kind) -> String {
    switch kind {
    case .out: "tokens out"
    case .compute: "experts"
    case .back: "rows back"
    case .gradients: "gradients of weights"
    }
  }

  private static func color(_ kind: TimelineSpan.Kind) -> Int {
    switch kind {
    case .compute: 0
    case .out: 1
    case .back: 2
    case .gradients: 6
    }
  }
}
