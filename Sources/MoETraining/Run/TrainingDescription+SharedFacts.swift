internal import ExpertParallel
internal import MoE
internal import MoERun

extension TrainingDescription {
  /// Returns all settings that must be equal on all ranks of a run: those that decide its bits, and those that decide
  /// which exchanges the ranks make.
  func sharedFacts(
    over ranks: Ranks, in folder: RunFolder, resumes: Bool, execution: Execution
  ) -> [SharedFact] {
    [
      .instructionSet(execution),
      SharedFact("the folder of the run (--out)", folder.path),
      SharedFact("the hash of the text (--text)", data.fingerprint),
      SharedFact("--seed", seed),
      SharedFact("the model", RunJSON.text(model)),
      SharedFact("the training", RunJSON.text(training)),
      SharedFact("--resume", resumes ? "set" : "not set"),
      SharedFact("--gradient-sum", "\(ranks.gradientSum)"),
      SharedFact("--expert-parallel", ranks.expertParallelSize ?? ranks.communicator.size),
      SharedFact("--overlap", ranks.exchange.overlap),
      SharedFact("the payload of the exchange", "\(ranks.exchange.payload)"),
      SharedFact("the rows that the exchange returns", "\(ranks.exchange.returned)"),
      SharedFact("the route of the exchange", "\(ranks.exchange.route)"),
      SharedFact("--rebalance-every", ranks.rebalancing.map { "\($0.interval)" } ?? "never"),
      SharedFact("--expert-copies", ranks.rebalancing?.copyCount ?? 0),
      SharedFact("the version that began the run", version),
    ]
  }
}
