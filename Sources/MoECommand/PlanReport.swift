import Foundation
import MoEPlan
import MoEReport

/// Shows a plan as tables or as JSON.
struct PlanReport {
  let planner: Planner
  let outcome: Planner.Outcome
  let load: String

  /// One line that says what was planned.
  var title: String {
    let (model, cluster) = (planner.model, planner.cluster)
    return
      "\(model.layerCount) × \(model.expertCount) experts of \(model.hiddenSize) × \(model.feedForwardSize), "
      + "top-\(model.expertsPerToken), \(planner.workload.tokenCount) tokens a step, \(cluster.hostCount) × "
      + "\(cluster.ranksPerHost) ranks"
  }

  func show(_ best: Prediction, listed: Int) {
    let cluster = planner.cluster
    StandardStream.output.line("\(title), load \(load)")
    StandardStream.output.line(
      "\(millions(planner.model.parameters)) parameters; a host: \(cluster.coresPerHost) cores, "
        + "\(formatted(bytes: cluster.memory)), \(short(cluster.rates.flops / 1e9)) GFLOP/s"
        + "\(cluster.rates.curve.isEmpty ? "" : " (measured curve)")")
    StandardStream.output.line("between hosts: \(cluster.link); inside: \(cluster.intra)")
    StandardStream.output.line()
    let splits = outcome.best
    table(splits.prefix(listed)).write()
    if splits.count > listed { StandardStream.output.line("and \(splits.count - listed) slower ones") }
    for (prediction, reason) in outcome.rejected.prefix(3) {
      StandardStream.output.line("no room: \(prediction.split) \(reason)")
    }
    if outcome.rejected.count > 3 {
      StandardStream.output.line("no room for \(outcome.rejected.count - 3) more")
    }
    StandardStream.output.line()
    StandardStream.output.line("\(best.split), \(best.route.rawValue) exchange:")
    times(best).write()
    StandardStream.output.line()
    traffic(best).write()
    StandardStream.output.line()
    memory(best).write()
    StandardStream.output.line()
    StandardStream.output.line(
      "tokens a second     \(short(Double(planner.workload.tokenCount) / best.seconds))")
    StandardStream.output.line("step by slices      \(slices(best))")
    StandardStream.output.line(
      "hidden by overlap   \(best.overlapEfficiency.map(percent) ?? "nothing to hide")")
    StandardStream.output.line("busiest rank        \(short(best.imbalance)) × the mean rows")
    StandardStream.output.line("dropped choices     \(percent(best.dropRate))")
  }

  /// Returns the step times of the best split by its number of slices.
  private func slices(_ best: Prediction) -> String {
    outcome.ranked.filter {
      let (one, other) = ($0.split, best.split)
      return one.expertParallel == other.expertParallel && one.dataParallel == other.dataParallel
        && one.tensorParallel == other.tensorParallel
    }.sorted { $0.split.overlap < $1.split.overlap }.map {
      "\($0.split.overlap): \(formatted(seconds: $0.seconds))"
    }.joined(separator: ", ")
  }

  private func table(_ predictions: some Sequence<Prediction>) -> TextTable {
    var table = TextTable(
      "EP", "DP", "TP", "slices", "step", "tokens/s", "memory/rank", "between hosts", "inside", "hidden",
      "busiest")
    for prediction in predictions {
      let split = prediction.split
      table.add(
        "\(split.expertParallel)", "\(split.dataParallel)", "\(split.tensorParallel)", "\(split.overlap)",
        formatted(seconds: prediction.seconds),
        short(Double(planner.workload.tokenCount) / prediction.seconds),
        formatted(bytes: prediction.memory.total), formatted(bytes: prediction.traffic.between),
        formatted(bytes: prediction.traffic.inside), prediction.overlapEfficiency.map(percent) ?? "–",
        "× \(short(prediction.imbalance))")
    }
    return table
  }

  private func times(_ prediction: Prediction) -> TextTable {
    var table = TextTable("stage", "time", "share", "", leftAligned: [3])
    for stage in prediction.stages.stages {
      let share = stage.seconds / prediction.seconds
      table.add(
        stage.name, formatted(seconds: stage.seconds), percent(share),
        String(repeating: "█", count: Int((share * 40).rounded(.up))))
    }
    table.add("step", formatted(seconds: prediction.seconds), "", "")
    return table
  }

  private func traffic(_ prediction: Prediction) -> TextTable {
    var table = TextTable("bytes of a step", "between hosts", "inside hosts")
    for part in prediction.traffic.parts where part.between + part.inside > 0 {
      table.add(part.kind.rawValue, formatted(bytes: part.between), formatted(bytes: part.inside))
    }
    table.add(
      "in all", formatted(bytes: prediction.traffic.between), formatted(bytes: prediction.traffic.inside))
    table.add(
      "a host's link, mean", formatted(bytes: prediction.traffic.between / Double(planner.cluster.hostCount)),
      formatted(bytes: prediction.traffic.inside / Double(planner.cluster.hostCount)))
    return table
  }

  private func memory(_ prediction: Prediction) -> TextTable {
    let memory = prediction.memory
    var table = TextTable("memory of a rank", "bytes")
    for (name, bytes) in [
      ("parameters", memory.parameters), ("fp32 masters", memory.masters), ("gradients", memory.gradients),
      ("optimizer", memory.optimizer), ("activations", memory.activations), ("buffers", memory.buffers),
    ] where bytes > 0 {
      table.add(name, formatted(bytes: bytes))
    }
    table.add("in all, of \(formatted(bytes: prediction.memoryPerRank))", formatted(bytes: memory.total))
    return table
  }

  private func millions(_ count: Int) -> String {
    count >= 1_000_000_000
      ? "\(short(Double(count) / 1e9)) billion" : "\(short(Double(count) / 1e6)) million"
  }

  // MARK: JSON

  private struct Document: Encodable {
    var model: ModelShape
    var workload: Workload
    var cluster: Cluster
    var load: String
    var placement: PlacementRule
    var splits: [Entry]
    var rejected: [Rejection]
  }

  private struct Entry: Encodable {
    var seconds: Double
    var tokensPerSecond: Double
    var prediction: Prediction
  }

  private struct Rejection: Encodable {
    var split: Split
    var memory: Double
    var reason: String
  }

  func json(listed: Int) -> Data {
    planJSON(
      Document(
        model: planner.model, workload: planner.workload, cluster: planner.cluster, load: load,
        placement: planner.placement,
        splits: outcome.best.prefix(listed).map {
          Entry(
            seconds: $0.seconds, tokensPerSecond: Double(planner.workload.tokenCount) / $0.seconds,
            prediction: $0)
        },
        rejected: outcome.rejected.map {
          Rejection(split: $0.prediction.split, memory: $0.prediction.memory.total, reason: $0.reason)
        }))
  }
}
