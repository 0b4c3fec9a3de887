/// The axes of a comparison's picture and the shapes between them, in CSS pixels.
struct Frame {
  static let (width, height) = (860.0, 480.0)
  static let (left, right, top, bottom) = (64.0, 190.0, 34.0, 52.0)

  var x: Axis
  var y: Axis

  /// The axis of losses covers the steps after the first fifth, in which losses fall too far to leave room for the
  /// rest.
  init(_ curves: [[SpreadPoint]], steps: Int) {
    x = Axis(0, Double(steps))
    let shown = curves.flatMap { curve in curve.filter { $0.step >= Double(steps) / 5 } }
    let (low, high) = (shown.map(\.spread.low).min() ?? 0, shown.map(\.spread.high).max() ?? 1)
    y = Axis(low - 0.04 * (high - low), high)
  }

  func across(_ step: Double) -> Double {
    Self.left + x.position(step) * (Self.width - Self.left - Self.right)
  }

  func down(_ value: Double) -> Double { down(position: y.position(value)) }

  func down(position: Double) -> Double {
    Self.top + (1 - position) * (Self.height - Self.top - Self.bottom)
  }

  private func place(_ step: Double, _ value: Double) -> String {
    "\(coordinate(across(step))) \(coordinate(down(value)))"
  }

  var grid: String {
    let data = y.ticks(6).map { "M\(place(0, $0))H\(coordinate(across(x.upper)))" }.joined()
    return element("path", ["class": "grid", "d": data])
  }

  func rule(_ value: Double) -> String {
    element("path", ["class": "goal", "d": "M\(place(0, value))H\(coordinate(across(x.upper)))"])
  }

  func band(_ curve: [SpreadPoint], style: String) -> String {
    let there = curve.map { place($0.step, $0.spread.high) }
    let back = curve.reversed().map { place($0.step, $0.spread.low) }
    return element("path", ["class": "band \(style)", "d": "M\((there + back).joined(separator: "L"))Z"])
  }

  func line(_ curve: [SpreadPoint], style: String) -> String {
    let data = curve.map { place($0.step, $0.spread.mean) }.joined(separator: "L")
    return element("path", ["class": "line \(style)", "d": "M\(data)"])
  }

  func dot(step: Double, value: Double, style: String) -> String {
    element(
      "circle",
      ["class": "dot \(style)", "cx": coordinate(across(step)), "cy": coordinate(down(value)), "r": "4.5"])
  }

  var tickLabels: String {
    let losses = y.ticks(6).map {
      text(Self.left - 10, down($0) + 4, short($0), style: "tick", anchor: "end")
    }
    let steps = x.wholeTicks(6).map {
      text(across($0), Self.height - Self.bottom + 22, grouped(nearest($0)), style: "tick", anchor: "middle")
    }
    return (losses + steps).joined()
      + text(Self.left - 48, 20, "validation loss, nats per byte", style: "tick")
      + text(across(x.upper / 2), Self.height - 10, "steps", style: "tick", anchor: "middle")
  }

  func ruleLabel(_ value: Double, _ name: String) -> String {
    text(Self.left + 8, down(value) - 7, "\(name), \(fixed(value, 3))", style: "tick")
  }

  func endLabel(_ position: Double, _ name: String, style: String) -> String {
    text(across(x.upper) + 10, down(position: position) + 4, name, style: "name \(style)")
  }

  private func text(
    _ x: Double, _ y: Double, _ text: String, style: String, anchor: String = "start"
  ) -> String {
    element(
      "text", ["class": style, "x": coordinate(x), "y": coordinate(y), "text-anchor": anchor], escaped(text))
  }

  /// Returns the whole file. Its colours follow the theme of the reader's system. The page around it may have another
  /// theme, so the picture has a background of its own.
  func picture(_ marks: String, _ labels: String, summary: String) -> String {
    let (width, height) = (coordinate(Self.width), coordinate(Self.height))
    let area = (across(x.upper) - Self.left, Self.height - Self.top - Self.bottom)
    return """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(width) \(height)" width="\(width)" height="\(height)" \
      role="img" aria-label="\(escaped(summary))">
      <style>
      \(colors(.light))
      @media (prefers-color-scheme:dark){\(colors(.dark))}
      text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
      .name{font-weight:600}path{fill:none}.grid{stroke-width:1}
      .goal{stroke-width:1.25;stroke-dasharray:5 4}
      .line{stroke-width:2;stroke-linejoin:round}.band{fill-opacity:.16}.dot{stroke-width:2}
      </style>
      <clipPath id="area"><rect x="\(coordinate(Self.left))" y="\(coordinate(Self.top))" \
      width="\(coordinate(area.0))" height="\(coordinate(area.1))"/></clipPath>
      <rect class="page" width="\(width)" height="\(height)" rx="10"/>
      <g clip-path="url(#area)">\(marks)</g>
      \(labels)
      </svg>

      """
  }

  private func colors(_ palette: Palette) -> String {
    let lines = (0..<Palette.lineCount).map { index in
      let color = palette.line(index).hex
      return ".r\(index){stroke:\(color)}.band.r\(index),text.r\(index){fill:\(color);stroke:none}"
    }
    return
      ".page{fill:\(palette.surface.hex)}.grid{stroke:\(palette.rule.hex)}.tick{fill:\(palette.muted.hex)}"
      + ".goal{stroke:\(palette.muted.hex)}.dot{fill:\(palette.surface.hex)}" + lines.joined()
  }
}
