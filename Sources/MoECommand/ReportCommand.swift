import ArgumentParser
import Foundation
import MoECheckpoints
import MoEReport
import MoERun

/// Writes a static page about one or more training runs.
struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report", abstract: "Write one static HTML page about training runs.",
    discussion: """
      The page shows losses, each expert's load, drops, which labels and characters each expert takes, held-out \
      text coloured by expert, and the time of each stage. The first RUN is its subject; the loss curves and \
      tables show the others beside it. The page has no script and loads nothing.

      Examples:
        moe report runs/switch
        moe report runs/switch runs/dense --output comparison.html
      """)

  @Argument(help: ArgumentHelp("Folders that moe train wrote.", valueName: "run")) var runs: [String]
  @Option(
    help: ArgumentHelp("The page to write; RUN/report.html of the first RUN by default.", valueName: "file"))
  var output: String?

  func run() throws {
    let path = output ?? URL(filePath: runs[0]).appending(path: "report.html").path
    let folders = try runs.map { try RecordedRun(path: $0) }
    try AtomicFile.check(path, isNoneOf: runs.flatMap(ownFiles))
    let page = Array(Report(folders).html.utf8)
    try AtomicFile.write(page, to: path)
    let stream = StandardStream.besides(path)
    for (folder, note) in folders.flatMap({ folder in folder.notes.map { (folder.name, $0) } }) {
      stream.remark("\(folder): \(note)")
    }
    for line in table(folders.map(RunSummary.init)).lines { stream.remark(line) }
    stream.remark("\(folders[0].name): \(page.count / 1024) KiB → \(path)")
  }

  /// The files of a run, none of which a page may replace.
  private func ownFiles(_ run: String) -> [String] {
    let names = FileManager.default.enumerator(atPath: run)?.compactMap { $0 as? String } ?? []
    return names.filter { !$0.hasSuffix(".html") }.map { "\(run)/\($0)" }
  }

  private func table(_ runs: [RunSummary]) -> TextTable {
    var table = TextTable(
      "run", "preset", "experts", "parameters", "a byte", "steps", "training", "validation", "bits/byte",
      "tokens/s", leftAligned: [1, 2])
    for run in runs {
      table.add(
        run.name, run.preset, run.experts.isEmpty ? "–" : run.experts.map(String.init).joined(separator: "+"),
        "\(fixed(Double(run.parameters) * 1e-6, 2))M", "\(fixed(Double(run.activeParameters) * 1e-6, 2))M",
        "\(run.steps)", fixed(run.trainingLoss, 3), run.validationLoss.map { fixed($0, 3) } ?? "–",
        run.validationLoss.map { fixed($0 * 1.442_695_040_888_963_4, 3) } ?? "–",
        fixed(run.tokensPerSecond, 0))
    }
    return table
  }
}
