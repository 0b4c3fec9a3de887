import Foundation
public import MoERun

/// A comparison of runs of several configurations, with a few seeds of each, with a baseline.
///
/// The name of a configuration is the part of a run's name before the last hyphen: `switch8-1` and `switch8-2` are
/// two seeds of `switch8`. A run is compared with the baseline's run of the same seed.
public struct RunComparison {
  /// The runs of one configuration, in the order of their seeds.
  package struct Group {
    package var name: String
    package var runs: [ComparedRun]
  }

  /// Sentences that say which runs were left out, and why.
  public private(set) var notes: [String] = []
  /// The configuration that the others are compared with.
  package var baseline: Group
  /// The other configurations, the one with fewest parameters first.
  package var others: [Group]
  /// The information that the byte alone has about its label, for all labels and without the label left out. A router
  /// that saw nothing but the byte could not know more.
  package var ofByte: (all: Specialization, others: Specialization?)?
  /// The label without which specialisation is measured a second time.
  package let labelLeftOut: String?

  /// Reads the finished runs in a folder.
  ///
  /// - Parameters:
  ///   - folder: a folder with the folders that `moe train` wrote, each named CONFIGURATION-SEED.
  ///   - baseline: the configuration to compare with.
  ///   - label: a label without which specialisation is measured a second time.
  /// - Throws: `RunError` if a file cannot be read, if the baseline is missing, or if runs differ in their text,
  ///   their steps or their FLOPs per token.
  public init(folder: String, baseline: String = "dense", leavingOut label: String? = nil) throws(RunError) {
    var summaries: [ComparedRun] = []
    for name in try Self.runNames(folder) {
      if let summary = ComparedRun(try RecordedRun(path: "\(folder)/\(name)"), leavingOut: label) {
        summaries.append(summary)
      } else {
        notes.append("\(name) is left out, because it is not finished.")
      }
    }
    let groups = Dictionary(grouping: summaries) { Self.configuration($0.name) }
      .map { Group(name: $0, runs: $1.sorted { $0.seed < $1.seed }) }
    guard let first = groups.first(where: { $0.name == baseline }) else {
      throw RunError(
        folder,
        "it has no finished run named \(baseline)-SEED, expected one to compare the others with")
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
      notes.append("\(run.name) is not compared, because \(baseline) has no finished run with its seed.")
    }
  }

  /// The name of the baseline's first run.
  public var firstRun: String { baseline.runs[0].name }

  /// Adds the information that the byte itself has, to compare the experts with.
  ///
  /// - Parameters:
  ///   - counts: `[256][label]`: how often each byte occurs in the held-out text.
  ///   - labels: the labels' names.
  public mutating func compare(bytes counts: [[Int]], labels: [String]) {
    let left = labelLeftOut.flatMap(labels.firstIndex)
    ofByte = (Specialization(counts: counts), left.map { Specialization(counts: counts.without(column: $0)) })
  }

  /// Returns the step at which a run reaches the loss of the baseline with its seed, and the ratio of the baseline's
  /// steps to it. Returns nil if the run does not reach that loss, or if that baseline is missing.
  ///
  /// - Parameters:
  ///   - share: the share of the baseline's steps after which its loss is taken, from the last validation until then.
  ///   - radius: both curves are replaced by centred means of 2·`radius` + 1 validations, so the baseline ends `radius`
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

  /// Returns the complaint about a value in which two compared runs differ; nil if they agree.
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

  /// Returns the names of the folders that have metrics of at least one step, sorted.
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
