public import MoE

extension LanguageModel {
  /// Adds the gradients of a batch to those of the parameters: of the mean cross-entropy of its tokens plus the
  /// routers' losses, both over the whole batch.
  ///
  /// - Parameters:
  ///   - inputs: `[B·S]`.
  ///   - targets: `[B·S]`, the token after each.
  ///   - sequenceLength: S.
  ///   - microBatchCount: parts of whole sequences that are computed one after another, to the same gradients with
  ///     less memory; a capacity of the batch is then one of each part.
  /// - Throws: `MoEError.diverged` naming the layer where a number is not finite, `MoEError.shapeMismatch`.
  public func accumulateGradients(
    inputs: [UInt8], targets: [UInt8], sequenceLength: Int, microBatchCount: Int = 1
  ) throws(MoEError) -> StepOutcome {
    let sequences = try check(inputs, targets, sequenceLength)
    guard (1...sequences).contains(microBatchCount) else {
      throw .invalidConfiguration(
        "a batch of \(sequences) sequences cannot be computed in \(microBatchCount) parts")
    }
    var clock = StageClock()
    var total = 0.0
    var records: [RoutingRecord] = []
    let pass = try pass(sequences: sequences, length: sequenceLength)
    try forward(inputs[...], pass, isTraining: true, clock: &clock)
    clock.measure(.head) { crossEntropy(targets[...], pass, divisor: inputs.count) }
    for token in 0..<pass.tokenCount { total += Double(unsafe pass.losses.floats[token]) }
    if !total.isFinite { throw .diverged("the loss is \(total): \(firstNonFinite(pass))") }
    records = pass.layers.map { $0.feedForward.recording.record }
    let losses = zip(layers, records).map { $0.feedForward.loss(of: $1) }
    try backward(inputs[...], pass, losses: losses.map(\.gradients), clock: &clock)
    embedding.finishGradient()
    let outcomes = zip(layers, records).filter { $0.0.feedForward.block.isMoE }
      .map { LayerOutcome($0.feedForward, $1) }
    return StepOutcome(
      loss: total / Double(inputs.count),
      auxiliaryLoss: outcomes.reduce(0) { $0 + $1.balanceLoss + $1.zLoss }, layers: outcomes,
      stageSeconds: clock.seconds)
  }

  /// What follows a change of the parameters: selection biases move towards the balance of the step's counts.
  public func parametersChanged(after outcome: StepOutcome) throws(MoEError) {
    for layer in outcome.layers {
      let feedForward = layers[layer.layer].feedForward
      guard let bias = feedForward.layer.selectionBias else { continue }
      let total = layer.load.reduce(0, +)
      feedForward.layer.selectionBias = zip(bias, layer.load).map {
        $0 + feedForward.block.biasRate * Float((total - Int64(layer.load.count) * $1).signum())
      }
    }
  }

  /// Sets all gradients to zero.
  public func resetGradients() {
    for parameter in parameters { parameter.resetGradient() }
  }

  /// The losses and routes of held-out text, with the capacities of evaluation.
  ///
  /// - Throws: as ``accumulateGradients(inputs:targets:sequenceLength:microBatchCount:)``.
  public func evaluate(
    inputs: [UInt8], targets: [UInt8], sequenceLength: Int
  ) throws(MoEError) -> Evaluation {
    let sequences = try check(inputs, targets, sequenceLength)
    let pass = try pass(sequences: sequences, length: sequenceLength)
    var clock = StageClock()
    try forward(inputs[...], pass, isTraining: false, clock: &clock)
    crossEntropy(targets[...], pass, divisor: inputs.count)
    let moe = zip(layers, pass.layers).filter { $0.0.feedForward.block.isMoE }
    return Evaluation(
      losses: unsafe Array(UnsafeBufferPointer(start: pass.losses.floats, count: pass.tokenCount)),
      routes: moe.map { layer, state in
        let record = state.feedForward.evaluation
        let chosen = record.expertsPerToken
        return (
          layer: layer.feedForward.index,
          firstChoices: (0..<record.tokenCount).map { token in
            record.slots[token * chosen] < 0 ? -1 : record.expertIDs[token * chosen]
          }
        )
      },
      layers: moe.map { LayerOutcome($0.feedForward, $1.feedForward.evaluation) })
  }

  /// Where the first number that is not finite is.
  private func firstNonFinite(_ pass: Pass) -> String {
    func isFinite(_ rows: Rows) -> Bool {
      unsafe rows.activations.tokens.withUnsafeBufferPointer { unsafe $0.allSatisfy(\.isFinite) }
    }
    for (index, state) in pass.layers.enumerated() {
      if !isFinite(state.attentionNorm.sum) {
        return index == 0
          ? "the embedding is not finite" : "layer \(index - 1)'s feed-forward block is not finite"
      }
      if !isFinite(state.feedForwardNorm.sum) { return "layer \(index)'s attention is not finite" }
    }
    return isFinite(pass.finalNorm.sum)
      ? "the logits are not finite" : "layer \(layers.count - 1)'s feed-forward block is not finite"
  }
}
