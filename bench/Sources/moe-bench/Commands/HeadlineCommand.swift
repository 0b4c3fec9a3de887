import ArgumentParser
import Foundation
import MoEReport
import MoERun

/// `moe-bench headline`
struct HeadlineCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "headline",
    abstract:
      "Compares training runs with a dense one of equal FLOPs: steps to its loss, load, specialisation.",
    discussion: """
      FOLDER holds runs of moe train named CONFIGURATION-SEED, as bench/experiments/switch/run.sh leaves them; runs \
      that are not finished are left out, and the text they read is read again. Prints tables; with --output they replace what stands between the results \
      markers of README.md there, and steps.svg is drawn beside it.

      Example: moe-bench headline runs --without ru --output bench/experiments/switch
      """)

  @Argument(help: "The folder of the runs.") var folder: String
  @Option(help: "The configuration that the others are compared with.") var baseline = "dense"
  @Option(
    help: ArgumentHelp(
      "A label without which specialisation is measured once more, as one whose alphabet tells it.",
      valueName: "label"))
  var without: String?
  @Option(help: ArgumentHelp("The folder of README.md and steps.svg.", valueName: "folder"))
  var output: String?

  func run() throws {
    var comparison = try RunComparison(folder: folder, baseline: baseline, leavingOut: without)
    let bytes = try HeldOutBytes(run: "\(folder)/\(comparison.firstRun)")
    comparison.compare(bytes: bytes.counts, labels: bytes.labels)
    for note in comparison.notes { printError(note) }
    let tables = comparison.tables
    printLine(tables)
    guard let output else { return }
    let readme = URL(filePath: output).appending(path: "README.md")
    guard let text = try? String(contentsOf: readme, encoding: .utf8),
      let start = text.range(of: Self.start), let end = text.range(of: Self.end),
      start.upperBound <= end.lowerBound
    else {
      throw RunError(readme.path, "there is no such file with the lines \(Self.start) and \(Self.end) in it")
    }
    let page = "\(text[..<start.upperBound])\n\n\(tables)\n\(text[end.lowerBound...])"
    try Data(page.utf8).write(to: readme, options: .atomic)
    let figure = Data(comparison.figure.utf8)
    try figure.write(to: URL(filePath: output).appending(path: "steps.svg"), options: .atomic)
  }

  private static let start = "<!-- results: written by moe-bench headline -->"
  private static let end = "<!-- end of results -->"
}
