internal import MoERun

/// The numbers of a run that several parts of the page show.
struct RunFacts {
  let run: RecordedRun
  /// The last tenth of the steps, over which final values are averaged.
  let tail: ArraySlice<StepRecord>

  init(_ run: RecordedRun) {
    self.run = run
    tail = run.steps.suffix(max(1, run.steps.count / 10))
  }

  var steps: Int { run.steps.last!.step }
  var finalLoss: Double { mean(\.loss) }
  var tokensPerSecond: Double { median(run.steps.map(\.tokensPerSecond)) }
  var seconds: Double { run.steps.reduce(0) { $0 + $1.seconds } }

  /// The newest validation and the best one.
  var validation: (last: Double, best: (step: Int, loss: Double))? {
    let measured = run.steps.compactMap { record in record.validationLoss.map { (record.step, $0) } }
    return measured.last.map { ($0.1, measured.min { $0.1 < $1.1 }!) }
  }

  /// Each layer with experts, and its number of experts.
  var layers: [(layer: Int, experts: Int)] { run.steps[0].layers.map { ($0.layer, $0.load.count) } }

  /// The choices per byte, from the load of the first step.
  var choicesPerToken: Double? {
    run.steps[0].layers.first.map { Double($0.choices) / Double(max(1, run.steps[0].tokens)) }
  }

  func dropRate(layer: Int) -> Double {
    let choices = tail.reduce(0) { $0 + $1.layers[layer].choices }
    return choices == 0 ? 0 : Double(tail.reduce(0) { $0 + $1.layers[layer].dropped }) / Double(choices)
  }

  func mean(_ value: (StepRecord) -> Double) -> Double {
    tail.reduce(0) { $0 + value($1) } / Double(tail.count)
  }

  /// “the last step”, “the last 40 steps”.
  var tailName: String { tail.count == 1 ? "the last step" : "the last \(grouped(tail.count)) steps" }

  /// The stages in the order of a step, with their mean seconds. The last one is the time outside all stages.
  var stages: [(name: String, seconds: Double)] {
    let known = [
      "data", "embedding", "attention", "feed_forward", "moe", "head", "optimizer", "communication",
    ]
    var sums: [String: Double] = [:]
    for record in run.steps {
      for (name, seconds) in record.stages { sums[name, default: 0] += seconds }
    }
    func rank(_ name: String) -> Int { known.firstIndex(of: name) ?? known.count }
    var stages = sums.map { (name: $0.key, seconds: $0.value / Double(run.steps.count)) }
      .sorted { (rank($0.name), $0.name) < (rank($1.name), $1.name) }
    let rest = seconds / Double(run.steps.count) - stages.reduce(0) { $0 + $1.seconds }
    if rest > 0.005 * seconds / Double(run.steps.count) { stages.append(("other", rest)) }
    return stages
  }
}

/// The number of bits in a nat: log₂ e.
let bitsPerNat = 1.4426950408889634

/// Returns “a”, “a and b”, “a, b and c”.
func listed(_ names: [String]) -> String {
  names.count < 2 ? names.joined() : names.dropLast().joined(separator: ", ") + " and " + names.last!
}

/// Returns “1 step”, “2 steps”.
func counted(_ count: Int, _ noun: String) -> String { "\(grouped(count)) \(noun)\(count == 1 ? "" : "s")" }
