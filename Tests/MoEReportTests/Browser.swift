import Foundation
import Testing

/// Chromium without a window.
enum Browser {
  /// Where it is; nil where none is installed.
  static let path: String? = ["chromium", "chromium-browser", "google-chrome", "chrome"].lazy
    .flatMap { name in
      (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/\(name)" }
    }
    .first { FileManager.default.isExecutableFile(atPath: $0) }

  enum Theme: String, CaseIterable {
    case dark = "0"
    case light = "1"
  }

  /// The output of a run of the browser.
  struct Output {
    var dom: String
    /// Messages of the page's console.
    var console: [String]
  }

  /// Opens a page and returns what it became once its scripts are idle.
  static func dump(_ page: URL, theme: Theme, width: Int) throws -> Output {
    try run(page, theme, width, 1000, ["--virtual-time-budget=5000", "--dump-dom"])
  }

  /// Writes a PNG of the page's first `height` pixels.
  static func screenshot(_ page: URL, theme: Theme, width: Int, height: Int, to file: URL) throws {
    _ = try run(page, theme, width, height, ["--hide-scrollbars", "--screenshot=\(file.path)"])
  }

  private static func run(
    _ page: URL, _ theme: Theme, _ width: Int, _ height: Int, _ options: [String]
  ) throws -> Output {
    try withTemporaryFolder { folder in
      let process = Process()
      process.executableURL = URL(filePath: try #require(path))
      process.arguments =
        [
          "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
          "--user-data-dir=\(folder.path)", "--enable-logging=stderr",
          "--blink-settings=preferredColorScheme=\(theme.rawValue)", "--window-size=\(width),\(height)",
        ] + options + [page.absoluteString]
      let (output, errors) = (folder.appending(path: "output"), folder.appending(path: "errors"))
      for file in [output, errors] { try Data().write(to: file) }
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = try FileHandle(forWritingTo: output)
      process.standardError = try FileHandle(forWritingTo: errors)
      let hasEnded = DispatchSemaphore(value: 0)
      process.terminationHandler = { _ in hasEnded.signal() }
      try process.run()
      if hasEnded.wait(timeout: .now() + 120) == .timedOut {
        kill(process.processIdentifier, SIGKILL)
        Issue.record("the browser did not end within two minutes")
        process.waitUntilExit()
      }
      #expect(process.terminationStatus == 0, "the browser failed on \(page.lastPathComponent)")
      let log = String(decoding: try Data(contentsOf: errors), as: UTF8.self)
      return Output(
        dom: String(decoding: try Data(contentsOf: output), as: UTF8.self),
        console: log.split(separator: "\n").filter { $0.contains("CONSOLE") }.map(String.init))
    }
  }
}
