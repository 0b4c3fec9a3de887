internal import ExpertParallel
internal import MoE

extension LanguageModel {
  /// Adds the gradients of a batch to the gradients of the parameters. The loss is the mean cross-entropy of the
  /// batch's tokens plus the routers' losses over the batch. With ranks a collective: each rank is given the whole
  /// batch and computes its part of every micro-batch, and all ranks get equal outcomes and gradients.
  ///
  /// - Parameters:
  ///   - inputs: the tokens, `[B·S]`.
  ///   - targets: the token after each of them, `[B·S]`.
  ///   - sequenceLength: S.
  ///   - microBatchCount: the number of parts, of whole sequences, that are computed one after another. More parts
  ///     need less memory and give equal gradients; a capacity then applies to each part instead of the batch.
  ///   - noiseSeed: the seed of the routers' noise, different for every step; ignored where no block has noise.
  /// - Throws: `MoEError.diverged` naming the layer where a number is not finite, on all ranks;
  ///   `MoEError.shapeMismatch`, `CommunicationError`.
  public func accumulateGradients(
    inputs: [UInt8], targets: [UInt8], sequenceLength: Int, microBatchCount: Int = 1,
    noiseSeed: UInt64 = 0
  ) throws -> StepOutcome {
    let sequences = try check(inputs, targets, sequenceLength)
    guard (1...sequences).contains(microBatchCount) else {
      throw MoEError.invalidConfiguration(
        "a batch of \(sequences) sequences cannot be computed in \(microBatchCount) parts")
    }
    let parts = (0..<microBatchCount).map { part in
      part * sequences / microBatchCount..<(part + 1) * sequences / microBatchCount
    }
    var clock = stageClock()
    prepareReduction()
    var sums = layers.map { layer in
      RouterStatistics(
        grouping: layer.feedForward.grouping(length: sequenceLength),
        expertCount: layer.feedForward.block.expertCount,
        expertsPerToken: layer.feedForward.block.expertsPerToken)
    }
    var (total, dropped) = (0.0, layers.map { _ in 0 })
    for part in parts {
      let own = ranks?.share(of: part) ?? part
      let tokens = own.lowerBound * sequenceLength..<own.upperBound * sequenceLength
      let pass = try pass(sequences: own.count, length: sequenceLength)
      try forward(
        inputs[tokens], pass, noise: RouterNoise(seed: noiseSeed, firstToken: tokens.lowerBound),
        clock: &clock)
      clock.measure(.head) { crossEntropy(targets[tokens], pass, divisor: inputs.count) }
      for loss in try losses(pass, of: part) { total += Double(loss) }
      if !total.isFinite {
        throw MoEError.diverged("the loss is \(total): \(try firstNonFinite(pass, upTo: layers.count))")
      }
      for (index, layer) in layers.enumerated() {
        let state = pass.layers[index].feedForward
        dropped[index] += state.recording.record.droppedCount
        sums[index] =
          try sums[index]
          + layer.feedForward.layer.statistics(
            of: state.recording, by: layer.feedForward.grouping(length: sequenceLength))
      }
    }
    var losses: [(balance: RouterLoss, z: RouterLoss)] = []
    for (layer, sums) in zip(layers, sums) { losses.append(try layer.feedForward.losses(of: sums)) }

    // One part is still recorded from its forward pass. Of several, each forward pass is computed again before its
    // backward pass.
    for part in parts {
      let own = ranks?.share(of: part) ?? part
      let tokens = own.lowerBound * sequenceLength..<own.upperBound * sequenceLength
      let pass = try pass(sequences: own.count, length: sequenceLength)
      if parts.count > 1 {
        try forward(
          inputs[tokens], pass, noise: RouterNoise(seed: noiseSeed, firstToken: tokens.lowerBound),
          clock: &clock)
        clock.measure(.head) { crossEntropy(targets[tokens], pass, divisor: inputs.count) }
      }
      try backward(
        inputs[tokens], pass, of: part,
        losses: losses.map { ($0.balance + $0.z).gradients.ofSequences(part) }, clock: &clock)
      try clock.measure(.head) { try completeSums() }
    }
    embedding.finishGradient()
    try reduceGradients()
    // The statistics of a spread layer cover all ranks, but each rank counted only the drops of its own tokens.
    dropped = try overRanks(dropped)
    let outcomes = layers.indices.filter { layers[$0].feedForward.block.isMoE }.map { index in
      LayerOutcome(
        layer: index, load: sums[index].ofBatch.counts, dropped: dropped[index],
        balanceLoss: losses[index].balance.value, zLoss: losses[index].z.value)
    }
    return StepOutcome(
      loss: total / Double(inputs.count),
      auxiliaryLoss: outcomes.reduce(0) { $0 + $1.balanceLoss + $1.zLoss }, layers: outcomes,
      stageSeconds: clock.seconds)
  }

  /// Follows a change of the parameters: makes the copies in bfloat16 again, and moves the selection biases towards
  /// an equal load.
  ///
  /// - Parameter outcome: the outcome of the step that led to the change; nil where the parameters were read from a
  ///   checkpoint.
  public func parametersChanged(after outcome: StepOutcome?) {
    for layer in layers { layer.feedForward.layer.parametersChanged() }
    for layer in outcome?.layers ?? [] {
      let feedForward = layers[layer.layer].feedForward
      guard let bias = feedForward.layer.selectionBias else { continue }
      feedForward.layer.selectionBias = RouterStatistics.updatedSelectionBias(
        bias, counts: layer.load, rate: feedForward.block.biasRate)
    }
  }

  /// Sets all gradients to zero.
  public func resetGradients() {
    Parallel.forEach(parameters.count, execution) { parameters[$0].resetGradient() }
  }

  /// Returns the losses and routes of held-out text, with the capacities of evaluation. With ranks a collective.
  ///
  /// - Throws: the errors of ``accumulateGradients(inputs:targets:sequenceLength:microBatchCount:noiseSeed:)``.
  public func evaluate(
    inputs: [UInt8], targets: [UInt8], sequenceLength: Int
  ) throws -> Evaluation {
    let batch = 0..<(try check(inputs, targets, sequenceLength))
    let own = ranks?.share(of: batch) ?? batch
    let tokens = own.lowerBound * sequenceLength..<own.upperBound * sequenceLength
    let pass = try pass(sequences: own.count, length: sequenceLength)
    var clock = stageClock()
    try forward(inputs[tokens], pass, noise: nil, clock: &clock)
    crossEntropy(targets[tokens], pass, divisor: inputs.count)
    var evaluation = Evaluation(losses: try losses(pass, of: batch), routes: [], layers: [])
    for (layer, state) in zip(layers, pass.layers) where layer.feedForward.block.isMoE {
      let record = state.feedForward.evaluation
      let (index, chosen) = (layer.feedForward.index, record.expertsPerToken)
      let firstChoices = (0..<record.tokenCount).map { token in
        record.slots[token * chosen] < 0 ? -1 : record.expertIDs[token * chosen]
      }
      let routes = try ranks?.gather(firstChoices, of: batch, length: sequenceLength, step: "the routes")
      evaluation.routes.append((layer: index, firstChoices: routes ?? firstChoices))
      let counts = try overRanks(record.counts.map(Int.init) + [record.droppedCount])
      evaluation.layers.append(
        LayerOutcome(
          layer: index, load: counts.dropLast().map(Int64.init), dropped: counts.last!, balanceLoss: 0,
          zLoss: 0))
    }
    return evaluation
  }

  /// Makes a clock that also measures how long this rank waits for others.
  private func stageClock() -> StageClock {
    guard let communicator = ranks?.communicator else { return StageClock() }
    return StageClock { communicator.waitingTime }
  }
}
