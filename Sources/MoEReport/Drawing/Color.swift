import Foundation

/// An sRGB colour.
package struct Color: Equatable {
  /// Red, green and blue, gamma-encoded, 0 to 1.
  var red: Double
  var green: Double
  var blue: Double

  init(red: Double, green: Double, blue: Double) { (self.red, self.green, self.blue) = (red, green, blue) }

  /// Makes a colour from 0xRRGGBB.
  package init(_ hex: UInt32) {
    self.init(
      red: Double(hex >> 16 & 255) / 255, green: Double(hex >> 8 & 255) / 255, blue: Double(hex & 255) / 255)
  }

  /// Makes a colour from OKLCH (Ottosson 2020): lightness 0 to 1, chroma, hue in degrees. Chroma is lowered until the
  /// colour is inside sRGB.
  package init(lightness: Double, chroma: Double, hue: Double) {
    var chroma = chroma
    var linear = Self.linear(lightness, chroma, hue)
    while chroma > 0, linear.contains(where: { $0 < -0.0005 || $0 > 1.0005 }) {
      chroma = max(0, chroma - 0.004)
      linear = Self.linear(lightness, chroma, hue)
    }
    let encoded = linear.map { value in
      let value = min(1, max(0, value))
      return value <= 0.0031308 ? 12.92 * value : 1.055 * pow(value, 1 / 2.4) - 0.055
    }
    self.init(red: encoded[0], green: encoded[1], blue: encoded[2])
  }

  private static func linear(_ lightness: Double, _ chroma: Double, _ hue: Double) -> [Double] {
    let (a, b) = (chroma * cos(hue * .pi / 180), chroma * sin(hue * .pi / 180))
    let l = pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3)
    let m = pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3)
    let s = pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3)
    return [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    ]
  }

  /// The colour as #rrggbb.
  package var hex: String {
    let bytes = [red, green, blue].map { Int(($0 * 255).rounded()) }
    return String(format: "#%02x%02x%02x", bytes[0], bytes[1], bytes[2])
  }

  /// Returns the contrast ratio of two colours, 1 to 21 (WCAG 2.2, definition of contrast ratio).
  package func contrast(_ other: Color) -> Double {
    let (one, two) = (luminance, other.luminance)
    return (max(one, two) + 0.05) / (min(one, two) + 0.05)
  }

  private var luminance: Double {
    let linear = [red, green, blue].map { $0 <= 0.04045 ? $0 / 12.92 : pow(($0 + 0.055) / 1.055, 2.4) }
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
  }
}
