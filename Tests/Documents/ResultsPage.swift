import Foundation

/// `bench/RESULTS.md`, rendered from the measurements in `bench/results`.
package struct ResultsPage {
  package static let path = "bench/RESULTS.md"
  private static let folder = "bench/results"

  private let measurements: [Measurement]

  /// Reads every measurement.
  ///
  /// - Throws: ``DocumentError`` that names the file that is no measurement.
  package init(repository: Repository) throws {
    measurements = try repository.entries(Self.folder).filter { $0.hasSuffix(".json") }.map { name in
      let data = Data(try repository.text("\(Self.folder)/\(name)").utf8)
      do {
        return try JSONDecoder().decode(Measurement.self, from: data)
      } catch {
        throw DocumentError("\(Self.folder)/\(name) is no measurement: \(error)")
      }
    }.sorted { $0.order < $1.order }
  }

  package var markdown: String {
    ([Self.head] + measurements.map(\.section)).joined(separator: "\n\n") + "\n"
  }

  private static let head = """
    # Results

    <!-- Written by `make results`; do not edit. -->

    Each section names the command that measures. With `--json` the commands of `moe-bench` print rows as the files in
    [results](results) hold them. Put the rows into the section's file, with the machine, the date and the versions, and run
    `make results`, which writes this page; a test checks that the page agrees with the files. Run nothing else while you
    measure. Every figure is a median of interleaved rounds of one run, and contenders are checked before they are timed.

    `make bench` prints the figures of every kernel and instruction set, each beside the limit that was measured with it.
    Figures of training to a loss are in [experiments/switch](experiments/switch/README.md).
    """
}

extension Measurement {
  /// The measurement's part of the page.
  fileprivate var section: String {
    let facts = [machine, "\(threads) \(threads == 1 ? "thread" : "threads")", versions, date]
    let head = """
      ## \(title)

      - Machine: \(facts.filter { !$0.isEmpty }.joined(separator: "; ")).
      - Command: \(command).
      """
    return ([head] + text + [table] + notes).joined(separator: "\n\n")
  }
}
