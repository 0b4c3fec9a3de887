/// A plot. Its marks are an SVG that stretches with the page. Its texts are HTML beside the SVG, so they keep their
/// size on a phone.
struct Plot {
  /// A text beside the marks. Its position is a share of the height from below, or of the width from the left.
  struct Text {
    var position: Double
    var text: String
    var style = ""
  }

  /// A label inside the plot, at shares of the width from the left and of the height from below.
  struct Label {
    var x: Double
    var y: Double
    var text: String
    var style: String
  }

  /// The width and height in which marks are drawn, unless the plot sets ``units``.
  static let size = 1000.0

  var kind = ""
  /// The height in CSS pixels.
  var height: Int
  /// A sentence that says what the plot shows, for screen readers.
  var summary: String
  var marks: String
  var units = (width: Plot.size, height: Plot.size)
  var left: [Text] = []
  var right: [Text] = []
  var bottom: [Text] = []
  var labels: [Label] = []

  var html: String {
    let box = "0 0 \(coordinate(units.width)) \(coordinate(units.height))"
    let svg = element(
      "svg",
      ["viewBox": box, "preserveAspectRatio": "none", "role": "img", "aria-label": summary], marks)
    let tags = labels.map {
      element(
        "span", ["class": "tag \($0.style)", "style": "right:\(share(1 - $0.x));bottom:\(share($0.y))"],
        escaped($0.text))
    }
    return element(
      "div", ["class": "plot \(kind)", "style": "--h:\(height)px"],
      texts(left, "left", "bottom") + element("div", ["class": "area"], svg + tags.joined())
        + texts(right, "right", "bottom") + (bottom.isEmpty ? "" : texts(bottom, "below", "left")))
  }

  private func texts(_ texts: [Text], _ side: String, _ edge: String) -> String {
    // Screen readers read the summary instead.
    element(
      "div", ["class": side, "aria-hidden": "true"],
      texts.map { text in
        let place = "\(edge):\(share(text.position))"
        return element(
          "span", text.style.isEmpty ? ["style": place] : ["class": text.style, "style": place],
          escaped(text.text))
      }.joined())
  }

  private func share(_ value: Double) -> String { "\(coordinate(value * 100))%" }
}

/// Moves labels upwards until they are at least `gap` apart, then down again until they are below `limit`.
///
/// - Returns: the positions in the order of the input.
package func spread(_ positions: [Double], gap: Double, limit: Double = 1) -> [Double] {
  let order = positions.indices.sorted { (positions[$0], $0) < (positions[$1], $1) }
  var result = positions
  for (lower, upper) in zip(order, order.dropFirst()) {
    result[upper] = max(result[upper], result[lower] + gap)
  }
  var ceiling = limit
  for index in order.reversed() {
    result[index] = min(result[index], ceiling)
    ceiling = result[index] - gap
  }
  return result
}

extension Series {
  /// Returns the line through the points.
  func path(_ x: Axis, _ y: Axis, style: String, title: String = "") -> String {
    if points.isEmpty { return "" }
    let data = points.enumerated().map { "\($0 == 0 ? "M" : $0 == 1 ? "L" : " ")\(place($1, x, y))" }.joined()
    // A single point is a line without length, which a round cap draws as a dot.
    return points.count == 1 ? shape(data + "h0", "dot \(style)", title) : shape(data, style, title)
  }

  /// Returns a dot at each point, with its value as a tooltip.
  func dots(_ x: Axis, _ y: Axis, style: String, title: (Point) -> String) -> String {
    points.map { shape("M\(place($0, x, y))h0", "dot \(style)", title($0)) }.joined()
  }

  private func place(_ point: Point, _ x: Axis, _ y: Axis) -> String {
    let down = (1 - y.position(point.value)) * Plot.size
    return "\(coordinate(x.position(point.step) * Plot.size)) \(coordinate(down))"
  }

  private func shape(_ data: String, _ style: String, _ title: String) -> String {
    element("path", ["class": style, "d": data], title.isEmpty ? "" : element("title", [:], escaped(title)))
  }
}

/// Returns horizontal lines behind the marks.
func gridLines(_ positions: [Double], style: String = "grid") -> String {
  let data = positions.map { "M0 \(coordinate((1 - $0) * Plot.size))h\(coordinate(Plot.size))" }.joined()
  return positions.isEmpty ? "" : element("path", ["class": style, "d": data])
}
