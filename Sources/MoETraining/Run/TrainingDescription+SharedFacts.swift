internal import ExpertParallel
internal import MoE
internal import MoERun

extension TrainingDescription {
  /// What ranks have to agree on to train a run.
  func sharedFacts(over ranks: Ranks, resumes: Bool, execution: Execution) -> [SharedFact] {
    [
      .instructionSet(execution),
      SharedFact("the fingerprint of the text", data.fingerprint),
      SharedFact("the seed", seed),
      SharedFact("the model", RunJSON.text(model)),
      SharedFact("the training", RunJSON.text(training)),
      SharedFact("--resume", resumes),
      SharedFact("--gradient-sum", "\(ranks.gradientSum)"),
      SharedFact("--expert-parallel", ranks.expertParallelSize ?? ranks.communicator.size),
      SharedFact("--rebalance-every", ranks.rebalancing?.interval ?? 0),
      SharedFact("--expert-copies", ranks.rebalancing?.copyCount ?? 0),
    ]
  }
}
