/// The colours of one theme. Text has a contrast of at least 4.5 with its background (WCAG 2.2, 1.4.3).
package struct Palette {
  var isDark: Bool

  package static let light = Palette(isDark: false)
  package static let dark = Palette(isDark: true)

  package var page: Color { Color(isDark ? 0x14161a : 0xfaf9f6) }
  package var surface: Color { Color(isDark ? 0x1b1e24 : 0xffffff) }
  package var ink: Color { Color(isDark ? 0xe9e7e2 : 0x1b1c1f) }
  package var muted: Color { Color(isDark ? 0xa6abb4 : 0x5a5e67) }
  package var rule: Color { Color(isDark ? 0x30353e : 0xe2e0d9) }

  /// The number of lines that have a colour of their own.
  package static let lineCount = 8

  /// Returns the colour of a line and its label. Neighbours differ in lightness too, for readers who distinguish few
  /// hues.
  package func line(_ index: Int) -> Color {
    let (hue, shift) = [
      (255.0, 0.0), (45, 0.03), (165, -0.04), (345, 0.02), (85, -0.06), (215, 0.03), (300, -0.07), (20, -0.1),
    ][index % Self.lineCount]
    return Color(lightness: (isDark ? 0.78 : 0.5) + shift, chroma: 0.14, hue: hue)
  }

  /// Returns the background of an expert's characters. Up to eight experts have hues and lightnesses that differ even
  /// without red–green vision. With more experts, hues advance by the golden angle, in three lightnesses.
  package func expert(_ index: Int, of count: Int) -> Color {
    if count <= 8 {
      let (lightness, chroma, hue) = [
        (0.84, 0.085, 250.0), (0.83, 0.12, 65), (0.80, 0.10, 165), (0.84, 0.09, 350), (0.94, 0.12, 102),
        (0.72, 0.09, 230), (0.74, 0.11, 300), (0.83, 0.0, 0),
      ][index]
      return Color(lightness: isDark ? min(0.5, lightness - 0.42) : lightness, chroma: chroma, hue: hue)
    }
    let lightness = [0.88, 0.79, 0.94][index % 3] - (isDark ? 0.45 : 0)
    return Color(lightness: lightness, chroma: 0.1, hue: 250 + 137.508 * Double(index))
  }

  /// The number of steps of the sequential ramp.
  package static let rampCount = 10

  /// Returns a step of the ramp. Step 0 is close to the surface; the last one is dark, or bright on a dark page.
  package func ramp(_ step: Int) -> Color {
    let share = Double(step) / Double(Self.rampCount - 1)
    return isDark
      ? Color(lightness: 0.25 + 0.57 * share, chroma: 0.02 + 0.11 * share, hue: 245 - 30 * share)
      : Color(lightness: 0.97 - 0.55 * share, chroma: 0.012 + 0.13 * share, hue: 235 + 20 * share)
  }

  /// Returns the colour of text on a step of the ramp: black or white, whichever has more contrast.
  package func text(onRamp step: Int) -> Color {
    [Color(0x000000), Color(0xffffff)].max { ramp(step).contrast($0) < ramp(step).contrast($1) }!
  }

  /// Returns the colour of a load: −4 is far below the balanced load, 0 is balanced, 4 is far above.
  func load(_ level: Int) -> Color {
    if level == 0 { return Color(isDark ? 0x2a2e36 : 0xeeece6) }
    let size = Double(abs(level)) / 4
    let hue = level < 0 ? 250.0 : 50
    return isDark
      ? Color(lightness: 0.30 + 0.48 * size, chroma: 0.03 + 0.12 * size, hue: hue)
      : Color(lightness: 0.93 - 0.45 * size, chroma: 0.02 + 0.14 * size, hue: hue)
  }
}
