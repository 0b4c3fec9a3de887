import Foundation
import MoEReport
import Testing

/// The page as a real browser shows it.
@Suite(
  .enabled("no chromium, chromium-browser, google-chrome or chrome on the PATH") { Browser.path != nil })
struct BrowserTests {
  /// Runs of every kind that the page must show.
  enum Kind: String, CaseIterable {
    case plain, compared, dense, one, many, pyramid, dropped, hostile

    func folders(in folder: URL) throws -> [RecordedRun] {
      var run = SyntheticRun()
      var others: [SyntheticRun] = []
      switch self {
      case .plain: break
      case .compared:
        others = [
          SyntheticRun(preset: "gshard-top2", floor: 1.22, seed: 2),
          SyntheticRun(preset: "dense", experts: [], floor: 1.45, seed: 3),
        ]
      case .dense: run = SyntheticRun(preset: "dense", experts: [])
      case .one: run = SyntheticRun(steps: 1)
      case .many: run = SyntheticRun(experts: [64, 64])
      case .pyramid: run = SyntheticRun(preset: "pr-moe", experts: [8, 16, 32])
      case .dropped: run = SyntheticRun(steps: 30, allDropped: true, generated: nil)
      case .hostile: run = hostileRun
      }
      return try ([run] + others).enumerated().map { index, run in
        let path = folder.appending(path: "\(run.preset.filter(\.isLetter))-\(index + 1)")
        try run.write(to: path)
        return try RecordedRun(path: path.path)
      }
    }
  }

  @Test(arguments: Kind.allCases)
  func pageIsSound(_ kind: Kind) throws {
    try withTemporaryFolder { folder in
      let html = Report(try kind.folders(in: folder)).html
      for theme in Browser.Theme.allCases {
        let widths = [390, 1280]
        for (width, probe) in zip(widths, try Probe.run(html, theme: theme, widths: widths)) {
          let comment: Comment = "\(kind), \(theme), \(width) px"
          #expect(probe.isDark == (theme == .dark), comment)
          #expect(probe.width == width || probe.width == width - 15, comment)
          #expect(probe.scrollWidth <= probe.width, comment)
          #expect(probe.wide == [], comment)
          #expect(probe.resources == [], comment)
          #expect(probe.foreign == [], comment)
          #expect(probe.textCount > 40, comment)
          #expect(probe.faint == [], comment)
          #expect(probe.views == probe.views.indices.map { "w\($0)" }, comment)
          #expect(kind == .dense ? probe.views.isEmpty : probe.views.count > 1, comment)
        }
      }
      let page = folder.appending(path: "report.html")
      try Data(html.utf8).write(to: page)
      let output = try Browser.dump(page, theme: .light, width: 1280)
      #expect(output.console == [], "\(kind)")
      try keepScreenshots(of: page, kind)
    }
  }

  /// Puts page and screenshots into the folder that `MOE_REPORT_SCREENSHOTS` names, to be looked at.
  private func keepScreenshots(of page: URL, _ kind: Kind) throws {
    guard let path = ProcessInfo.processInfo.environment["MOE_REPORT_SCREENSHOTS"] else { return }
    let folder = URL(filePath: path)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try Data(contentsOf: page).write(to: folder.appending(path: "\(kind).html"))
    let frame = page.deletingLastPathComponent().appending(path: "phone.html")
    let phone = """
      <!doctype html><meta name="color-scheme" content="light dark"><body style="margin:0">\
      <iframe src="report.html" style="border:0;width:390px;height:9000px"></iframe>
      """
    try Data(phone.utf8).write(to: frame)
    for theme in Browser.Theme.allCases {
      try Browser.screenshot(
        page, theme: theme, width: 1280, height: 5200, to: folder.appending(path: "\(kind)-\(theme)-wide.png")
      )
      try Browser.screenshot(
        frame, theme: theme, width: 500, height: 9000,
        to: folder.appending(path: "\(kind)-\(theme)-phone.png"))
    }
  }
}

/// A run whose every name and text tries to leave its place.
let hostileRun: SyntheticRun = {
  var run = SyntheticRun()
  let attack = "</script></style><img src=x onerror=alert(1)>\"'&\u{202e}\u{0}"
  run.preset = attack
  run.labels = [attack, "a\u{1}b", "en", "<b>"]
  run.generated = "\(attack) ]]> <!-- <svg onload=alert(2)> \u{7}\u{1b}[31m"
  return run
}()
