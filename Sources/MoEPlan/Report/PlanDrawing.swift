import MoEReport

/// A plan as one SVG: the step times of the fastest splits, and for the first of them the passes over a layer, on the
/// cores of a rank and on its host's link. The SVG has colours for light and for dark pages.
public struct PlanDrawing {
  private let predictions: [Prediction]
  private let title: String

  /// - Parameters:
  ///   - predictions: at least one, fastest first; the first ten are drawn.
  ///   - title: a line that names the model and the cluster.
  public init(_ predictions: [Prediction], title: String) {
    self.predictions = Array(predictions.prefix(10))
    self.title = title
  }

  /// The contents of the SVG file.
  public var svg: String {
    let bars = StepBars(predictions: predictions, top: 96)
    let timeline = PassTimeline(prediction: predictions[0], top: bars.bottom + 64)
    let best = predictions[0]
    let summary =
      "\(title): \(best.split) takes \(formatted(seconds: best.seconds)) per step, the fastest of "
      + "\(predictions.count) drawn"
    return """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(coordinate(Canvas.width)) \
      \(coordinate(timeline.bottom + 24))" width="\(coordinate(Canvas.width))" role="img" \
      aria-label="\(escaped(summary))">
      <style>\(Self.style)</style>
      <rect class="page" width="100%" height="100%"/>
      \(Canvas.text(title, x: Canvas.margin, y: 40, style: "title"))
      \(bars.markup)
      \(timeline.markup)
      </svg>

      """
  }

  private static var style: String {
    "text{font:13px system-ui,\"Segoe UI\",\"DejaVu Sans\",sans-serif;fill:var(--ink)}"
      + ".title{font-size:18px;font-weight:600}.head{font-size:14px;font-weight:600}"
      + ".muted{fill:var(--muted)}.end{text-anchor:end}.middle{text-anchor:middle}"
      + ".page{fill:var(--page)}.inside{fill:var(--page);font-size:11px;text-anchor:middle}"
      + ".rule{stroke:var(--rule);stroke-width:1;fill:none}"
      + (0..<Palette.lineCount).map { ".c\($0){fill:var(--c\($0))}" }.joined()
      + ":root{\(properties(.light))}@media (prefers-color-scheme:dark){:root{\(properties(.dark))}}"
  }

  private static func properties(_ palette: Palette) -> String {
    let named = [
      ("page", palette.page), ("ink", palette.ink), ("muted", palette.muted), ("rule", palette.rule),
    ]
    let lines = (0..<Palette.lineCount).map { ("c\($0)", palette.line($0)) }
    return (named + lines).map { "--\($0):\($1.hex);" }.joined()
  }
}

/// The size of the drawing and its parts, in pixels.
enum Canvas {
  static let width = 960.0
  static let margin = 24.0
  /// The place where names end and bars begin, and the place where the longest bar ends.
  static let left = 270.0
  static let right = 850.0

  static func text(_ text: String, x: Double, y: Double, style: String) -> String {
    element("text", ["class": style, "x": coordinate(x), "y": coordinate(y)], escaped(text))
  }

  /// Returns a box with a tooltip; `color` is the index of one of the palette's lines.
  static func box(x: Double, y: Double, width: Double, height: Double, color: Int, title: String) -> String {
    element(
      "rect",
      [
        "class": "c\(color)", "x": coordinate(x), "y": coordinate(y), "width": coordinate(width),
        "height": coordinate(height),
      ], element("title", [:], escaped(title)))
  }

  /// Returns squares with names in one line.
  static func legend(_ entries: [(name: String, color: Int)], y: Double) -> String {
    var x = margin
    return entries.map { name, color in
      defer { x += 30 + 7.6 * Double(name.count) }
      return box(x: x, y: y - 11, width: 12, height: 12, color: color, title: name)
        + text(name, x: x + 18, y: y, style: "muted")
    }.joined()
  }

  /// Returns the lines and numbers of an axis of time.
  static func ticks(_ axis: Axis, top: Double, bottom: Double) -> String {
    axis.ticks(5).map { value in
      let x = left + axis.position(value) * (right - left)
      return element(
        "path", ["class": "rule", "d": "M\(coordinate(x)) \(coordinate(top))V\(coordinate(bottom))"])
        + text(value == 0 ? "0" : formatted(seconds: value), x: x, y: bottom + 16, style: "muted middle")
    }.joined()
  }
}
