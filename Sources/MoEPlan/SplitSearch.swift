import MoEReport

extension Planner {
  /// The result of a search over splits.
  public struct Outcome: Sendable {
    /// The splits that fit into memory, fastest first, and at equal time the one with fewer slices first.
    public var ranked: [Prediction]
    /// The other splits with the reason, those that need least memory first.
    public var rejected: [(prediction: Prediction, reason: String)]

    /// Each EP × DP × TP with its fastest number of slices, fastest first.
    public var best: [Prediction] {
      var seen: Set<[Int]> = []
      return ranked.filter {
        seen.insert([$0.split.expertParallel, $0.split.dataParallel, $0.split.tensorParallel]).inserted
      }
    }
  }

  /// Predicts every split with EP × DP × TP = R, EP ≤ E and a TP that divides F, each with 1, 2, 4, 8 and 16 slices.
  ///
  /// - Parameters:
  ///   - expertParallel: the only EP to try; nil for all.
  ///   - dataParallel: the only DP to try; nil for all.
  ///   - tensorParallel: the only TP to try; nil for 1 to 8.
  ///   - overlap: the only number of slices to try; nil for all.
  /// - Throws: ``PlanError`` if no split meets these conditions.
  public func search(
    expertParallel: Int? = nil, dataParallel: Int? = nil, tensorParallel: Int? = nil, overlap: Int? = nil
  ) throws(PlanError) -> Outcome {
    var splits: [Split] = []
    let ranks = cluster.rankCount
    for tensor in 1...min(ranks, max(8, tensorParallel ?? 1))
    where ranks % tensor == 0 && model.feedForwardSize % tensor == 0 && tensorParallel ?? tensor == tensor {
      for expert in 1...min(ranks / tensor, model.expertCount)
      where ranks / tensor % expert == 0 && expertParallel ?? expert == expert {
        let data = ranks / tensor / expert
        if dataParallel ?? data != data { continue }
        for slices in overlap.map({ [$0] }) ?? [1, 2, 4, 8, 16] {
          splits.append(
            Split(expertParallel: expert, dataParallel: data, tensorParallel: tensor, overlap: slices))
        }
      }
    }
    if splits.isEmpty {
      let asked = [("EP", expertParallel), ("DP", dataParallel), ("TP", tensorParallel), ("slices", overlap)]
        .compactMap { name, value in value.map { "\(name) \($0)" } }
      throw PlanError(
        "no split of \(ranks) ranks has \(asked.isEmpty ? "EP up to \(model.expertCount)" : asked.joined(separator: ", ")): "
          + "EP × DP × TP is \(ranks), EP is at most the \(model.expertCount) experts, TP divides "
          + "F = \(model.feedForwardSize)")
    }
    var outcome = Outcome(ranked: [], rejected: [])
    for split in splits {
      let prediction = try predict(split)
      if prediction.fits {
        outcome.ranked.append(prediction)
      } else if split.overlap == overlap ?? 1 {
        // The number of slices does not change memory, so one of them is listed.
        outcome.rejected.append((prediction, prediction.memoryComplaint))
      }
    }
    outcome.ranked.sort { ($0.seconds, $0.split.overlap) < ($1.seconds, $1.split.overlap) }
    outcome.rejected.sort { $0.prediction.memory.total < $1.prediction.memory.total }
    return outcome
  }
}

extension Prediction {
  /// The sentence that says how much memory is missing and what needs most of it.
  var memoryComplaint: String {
    let parts = [
      ("parameters", memory.parameters + memory.masters), ("gradients", memory.gradients),
      ("optimizer state", memory.optimizer), ("activations", memory.activations), ("buffers", memory.buffers),
    ]
    let largest = parts.max { $0.1 < $1.1 }!
    return
      "needs \(formatted(bytes: memory.total)) per rank, which has \(formatted(bytes: memoryPerRank)); most is for "
      + "\(largest.0): \(formatted(bytes: largest.1))"
  }
}
