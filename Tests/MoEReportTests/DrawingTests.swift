import Foundation
import MoEReport
import Testing

/// Series, axes, text and colours.
@Suite struct DrawingTests {
  private func series(_ values: [Double]) -> Series {
    Series(values.enumerated().map { .init(step: Double($0 + 1), value: $1) })
  }

  // MARK: Series

  @Test func extremesKeepEverySpike() {
    var values = (0..<2000).map { sin(Double($0) / 50) }
    values[777] = 40
    values[1301] = -40
    let thin = series(values).extremes(100)
    #expect(thin.points.count <= 200)
    #expect(
      thin.points.contains(.init(step: 778, value: 40)) && thin.points.contains(.init(step: 1302, value: -40))
    )
    #expect(zip(thin.points, thin.points.dropFirst()).allSatisfy { $0.step < $1.step })
    #expect(series([1, 2, 3]).extremes(2) == series([1, 2, 3]))
  }

  @Test(arguments: [1, 2, 5, 6, 299, 300, 301, 2000]) func meansKeepBothEnds(_ count: Int) {
    let all = series((0..<count).map(Double.init))
    let thin = all.means(5)
    #expect(thin.points.count == min(5, count))
    #expect(thin.points.first == all.points.first && thin.points.last?.step == all.points.last?.step)
  }

  @Test func meansOfStretches() {
    // The first point stays; the others are stretches of two.
    #expect(series([9, 1, 3, 5, 7]).means(3).points.map(\.value) == [9, 2, 6])
  }

  @Test func smoothing() {
    #expect(series([6, 0, 3, 9]).smoothed(radius: 0) == series([6, 0, 3, 9]))
    #expect(series([6, 0, 3, 9]).smoothed(radius: 1).points.map(\.value) == [6, 3, 4, 6])
    #expect(series([]).smoothed(radius: 3) == series([]))
  }

  @Test(arguments: [(0, 4), (1, 4), (7, 3), (10, 10), (11, 100)]) func stretchesCoverAll(
    _ length: Int, _ count: Int
  ) {
    let parts = stretches(length, count)
    #expect(parts.flatMap(Array.init) == Array(0..<length) && parts.allSatisfy { !$0.isEmpty })
    #expect(parts.count == min(length, count))
  }

  @Test func labelsArePushedApart() {
    #expect(spread([0.5, 0.1, 0.5], gap: 0.1) == [0.5, 0.1, 0.6])
    let crowded = spread([0.9, 0.9, 0.9], gap: 0.25)
    #expect(crowded == [0.5, 0.75, 1])
  }

  // MARK: Axes and numbers

  @Test func ticks() {
    #expect(Axis(1.3, 5.6).ticks(6) == [2, 3, 4, 5])
    #expect(Axis(0, 1).ticks(4) == [0, 0.5, 1])
    #expect(Axis(1, 1).upper > 1, "never empty")
    #expect(Axis(1, 2).wholeTicks(5) == [1, 2])
    #expect(Axis.fromZero(upTo: 0.23).upper == 0.25 && Axis.fromZero(upTo: 31).upper == 40)
  }

  @Test func numbers() {
    #expect(
      grouped(1234) == "1234" && grouped(12345) == "12\u{202f}345"
        && grouped(-1_000_000) == "−1\u{202f}000\u{202f}000")
    #expect(
      percent(0) == "0\u{202f}%" && percent(0.00001) == "<0.01\u{202f}%" && percent(0.002) == "0.20\u{202f}%"
        && percent(0.125) == "12.5\u{202f}%")
    #expect(percent(1) == "100\u{202f}%" && fixed(-0.0001, 2) == "0.00" && coordinate(12.04) == "12")
    #expect(
      abbreviated(999) == "999" && abbreviated(3_420_000) == "3.42\u{202f}M"
        && abbreviated(1.5e9) == "1.50\u{202f}G")
  }

  // MARK: Text

  @Test(arguments: [
    ("<b>&\"'</b>", "&lt;b&gt;&amp;&quot;&#39;&lt;/b&gt;"),
    ("a\u{0}\u{1b}\u{7f}", "a\u{2400}\u{241b}\u{2421}"),
    ("a\u{202e}b\u{feff}", "a[U+202E]b[U+FEFF]"), ("\r\n\t", "\u{240d}\n\t"),
    ("\u{85}\u{fffe}\u{1ffff}", "\u{fffd}\u{fffd}\u{fffd}"),
    ("ähм€😀", "ähм€😀"),
  ])
  func escaping(_ text: String, _ expected: String) {
    #expect(escaped(text) == expected)
  }

  @Test func charactersJoinTheirBytes() {
    let characters = SampleCharacter.decode(Array("aä€😀".utf8) + [0xff, 0x62, 0xe2, 0x82])
    #expect(characters.map(\.scalar) == ["a", "ä", "€", "😀", "\u{fffd}", "b", "\u{fffd}"])
    #expect(characters.map(\.bytes) == [0..<1, 1..<3, 3..<6, 6..<10, 10..<11, 11..<12, 12..<14])
  }

  @Test func anyBytesAreCovered() {
    for first in UInt8.min...UInt8.max {
      let bytes = [first, 0x80, 0xbf, first, 0x41, first]
      let characters = SampleCharacter.decode(bytes)
      #expect(characters.flatMap { Array($0.bytes) } == Array(bytes.indices), "\(bytes)")
    }
  }

  // MARK: Colours

  @Test func contrastOfKnownColors() {
    #expect(abs(Color(0x000000).contrast(Color(0xffffff)) - 21) < 1e-9)
    // The grey on white that just passes 4.5.
    #expect(
      Color(0x767676).contrast(Color(0xffffff)) > 4.5 && Color(0x777777).contrast(Color(0xffffff)) < 4.5)
  }

  @Test func lightnessAndHueGiveTheColor() {
    // OKLCH of sRGB red: 0.62796, 0.25768, 29.234°.
    #expect(Color(lightness: 0.62796, chroma: 0.25768, hue: 29.234).hex == "#ff0000")
    #expect(Color(lightness: 1, chroma: 0, hue: 0).hex == "#ffffff")
  }

  @Test(arguments: [false, true]) func textStandsOut(_ isDark: Bool) {
    let palette = isDark ? Palette.dark : Palette.light
    var pairs: [(Color, Color, String)] = []
    for back in [palette.page, palette.surface] {
      pairs += [(palette.ink, back, "ink"), (palette.muted, back, "muted")]
      pairs += (0..<Palette.lineCount).map { (palette.line($0), back, "line \($0)") }
    }
    for count in [8, 64, 512] {
      pairs += (0..<count).map { (palette.ink, palette.expert($0, of: count), "expert \($0) of \(count)") }
    }
    pairs += (0..<Palette.rampCount).map { (palette.text(onRamp: $0), palette.ramp($0), "ramp \($0)") }
    for (text, back, name) in pairs { #expect(text.contrast(back) >= 4.5, "\(name)") }
  }
}
