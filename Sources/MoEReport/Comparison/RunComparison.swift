import Foundation
public import MoERun

/// Runs of several configurations, a few seeds of each, beside a baseline.
///
/// A configuration is what runs' names share before their last hyphen: `switch8-1` and `switch8-2` are two seeds of
/// `switch8`. A run is compared with the baseline's run of its seed.
public struct RunComparison {
  /// The runs of one configuration, by seed.
  package struct Group {
    package var name: String
    package var runs: [ComparedRun]
  }

  /// What had to be left out, in sentences.
  public private(set) var notes: [String] = []
  /// The configuration that the others are compared with.
  package var baseline: Group
  /// All others, the smallest first.
  package var others: [Group]
  /// What the byte alone tells of its label, of all labels and without the one left out: the most that a router could
  /// know which saw nothing else.
  package var ofByte: (all: Specialization, others: Specialization?)?
  /// The label without which specialisation is measured once more.
  package let labelLeftOut: String?

  /// Reads the finished runs in a folder.
  ///
  /// - Parameters:
  ///   - folder: a folder of folders that `moe train` wrote, named CONFIGURATION-SEED.
  ///   - baseline: the configuration to compare with.
  ///   - label: a label without which specialisation is measured once more.
  /// - Throws: ``RunError`` where a file cannot be read, the baseline is missing, or runs differ in their FLOPs per
  ///   token or text.
  public init(folder: String, baseline: String = "dense", leavingOut label: String? = nil) throws(RunError) {
    var summaries: [ComparedRun] = []
    for name in try Self.runNames(folder) {
      if let summary = ComparedRun(try RecordedRun(path: "\(folder)/\(name)"), leavingOut: label) {
        summaries.append(summary)
      } else {
        notes.append("\(name) is not finished and left out.")
      }
    }
    let groups = Dictionary(grouping: summaries) { Self.configuration($0.name) }
      .map { Group(name: $0, runs: $1.sorted { $0.seed < $1.seed }) }
    guard let first = groups.first(where: { $0.name == baseline }) else {
      throw RunError(
        folder, "there is no finished run of \(baseline) in it, which the others are compared with")
    }
    self.baseline = first
    others = groups.filter { $0.name != baseline }.sorted {
      ($0.runs[0].parameters.total, $0.name) < ($1.runs[0].parameters.total, $1.name)
    }
    labelLeftOut = label
    for run in summaries {
      if let complaint = Self.difference(run, first.runs[0]) {
        throw RunError("\(folder)/\(run.name)/run.json", complaint)
      }
    }
    for run in summaries where !first.runs.contains(where: { $0.seed == run.seed }) {
      notes.append("\(run.name) has no finished run of \(baseline) with its seed to be compared with.")
    }
  }

  /// The name of the baseline's first run.
  public var firstRun: String { baseline.runs[0].name }

  /// Puts the byte itself beside the experts.
  ///
  /// - Parameters:
  ///   - counts: [256][label], how often each byte occurs in the held-out text.
  ///   - labels: the labels' names.
  public mutating func compare(bytes counts: [[Int]], labels: [String]) {
    let left = labelLeftOut.flatMap(labels.firstIndex)
    ofByte = (Specialization(counts: counts), left.map { Specialization(counts: counts.without(column: $0)) })
  }

  /// A run beside the baseline of its seed: the step at which it has that one's loss, and how many times as many
  /// steps the baseline takes to it. Nil where it does not get there, or that baseline is missing.
  ///
  /// - Parameters:
  ///   - share: how far the baseline has come, as a share of its steps: its last validation until then counts.
  ///   - radius: both curves are centred means of 2·`radius` + 1 validations, so that the baseline ends `radius`
  ///     validations earlier.
  package func arrival(_ run: ComparedRun, after share: Double = 1, radius: Int = 0)
    -> (step: Double, ratio: Double)?
  {
    guard let other = baseline.runs.first(where: { $0.seed == run.seed }),
      let end = other.validation.centredMeans(radius: radius).points
        .last(where: { $0.step <= share * Double(other.steps) })
    else { return nil }
    return run.validation.centredMeans(radius: radius).step(reaching: end.value).map { ($0, end.step / $0) }
  }

  /// What two runs may not differ in, where they do.
  private static func difference(_ run: ComparedRun, _ other: ComparedRun) -> String? {
    for (name, value, expected) in [
      ("flops_per_token", run.flopsPerToken, other.flopsPerToken),
      ("data.train_bytes", run.trainBytes, other.trainBytes), ("training.steps", run.steps, other.steps),
      ("tokens", run.tokens, other.tokens),
    ] where value != expected {
      return "“\(name)” is \(value), but \(expected) in \(other.name); compared runs must agree in it"
    }
    return nil
  }

  private static func configuration(_ name: String) -> String {
    name.lastIndex(of: "-").map { String(name[..<$0]) } ?? name
  }

  /// The folders of runs that have measured a step, by name.
  private static func runNames(_ folder: String) throws(RunError) -> [String] {
    let files = FileManager.default
    guard let names = try? files.contentsOfDirectory(atPath: folder) else {
      throw RunError(folder, "there is no such folder")
    }
    return names.sorted().filter { name in
      let size = try? files.attributesOfItem(atPath: "\(folder)/\(name)/metrics.jsonl")[.size] as? Int
      return (size ?? 0) > 0
    }
  }
}
