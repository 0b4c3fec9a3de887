internal import CKernels
internal import MoE

extension LanguageModel {
  /// Computes the logits of a batch, [B·S, V], and leaves them in the pass. A pass with `noise` is a training pass
  /// and is recorded. A pass without `noise` is an evaluation.
  func forward(
    _ inputs: ArraySlice<UInt8>, _ pass: Pass, noise: RouterNoise?, clock: inout StageClock
  ) throws {
    clock.measure(.head) { embedding.forward(inputs, into: pass.embedded, execution: execution) }
    var stream = pass.embedded
    var addend: Rows?
    for (index, layer) in layers.enumerated() {
      let state = pass.layers[index]
      clock.measure(.attention) {
        layer.attentionNorm.forward(stream, addend: addend, into: state.attentionNorm, execution: execution)
        layer.attention.forward(
          state.attentionNorm.normed, sequences: pass.sequences, length: pass.length, state: state.attention,
          scratch: pass.attentionScratch, into: pass.branch, execution: execution)
      }
      try clock.measure(layer.feedForward.block.stage) {
        layer.feedForwardNorm.forward(
          state.attentionNorm.sum, addend: pass.branch, into: state.feedForwardNorm, execution: execution)
        let (input, kept) = (state.feedForwardNorm.normed, state.feedForward)
        let feedForward = layer.feedForward
        do {
          if let noise {
            try feedForward.layer.forward(
              input.activations, noise: feedForward.noise(of: noise), recording: kept.recording,
              into: &pass.branch.activations)
          } else {
            try feedForward.layer.evaluate(
              input.activations, into: &pass.branch.activations, record: &kept.evaluation)
          }
        } catch MoEError.notFinite(let what, let token) {
          if ranks != nil, !feedForward.layer.isSpread {
            // The other ranks do not know of the error yet. This block puts out NaN instead, which the next router of
            // a spread layer or the loss reports on all ranks.
            unsafe pass.branch.floats.update(
              repeating: .nan, count: pass.tokenCount * configuration.hiddenSize)
          } else {
            throw MoEError.diverged(
              "\(what) of token \(token) is NaN or infinite: \(try firstNonFinite(pass, upTo: index))")
          }
        }
      }
      stream = state.feedForwardNorm.sum
      addend = pass.branch
    }
    clock.measure(.head) {
      finalNorm.forward(stream, addend: addend, into: pass.finalNorm, execution: execution)
      unsafe embedding.projection.forward(
        pass.finalNorm.normed.floats, sequences: pass.sequences, length: pass.length,
        into: pass.logits.floats, execution: execution)
    }
  }

  /// Computes the loss of each token, and replaces the logits by the gradients of Σ losses/`divisor`.
  func crossEntropy(_ targets: ArraySlice<UInt8>, _ pass: Pass, divisor: Int) {
    unsafe targets.withUnsafeBufferPointer { targets in
      unsafe moe_cross_entropy(
        execution.cValue, pass.logits.floats, targets.baseAddress, Int64(targets.count),
        Int64(configuration.vocabularySize), 1 / Float(divisor), pass.losses.floats)
    }
  }

  /// Computes all gradients from those of the logits, layer by layer from the last to the embedding.
  ///
  /// - Parameter part: the sequences of the batch whose gradients all ranks together compute.
  func backward(
    _ inputs: ArraySlice<UInt8>, _ pass: Pass, of part: Range<Int>, losses: [RouterLossGradients],
    clock: inout StageClock
  ) throws {
    let (sequences, length) = (pass.sequences, pass.length)
    try clock.measure(.head) {
      unsafe pass.stream.floats.update(repeating: 0, count: pass.tokenCount * configuration.hiddenSize)
      try goBack(
        pass, of: part, through: [embedding.projection.weight], after: finalNorm, state: pass.finalNorm
      ) { calls in
        unsafe embedding.projection.backward(
          calls, pass.logits.floats, x: pass.finalNorm.normed.floats, sequences: sequences, length: length,
          into: pass.inward.floats, execution: execution)
      }
    }
    for index in layers.indices.reversed() {
      let (layer, state) = (layers[index], pass.layers[index])
      let feedForward = layer.feedForward
      try clock.measure(feedForward.block.stage) {
        try goBack(
          pass, of: part, through: feedForward.layer.isSpread ? [] : feedForward.parameters,
          after: layer.feedForwardNorm, state: state.feedForwardNorm
        ) { calls in
          try feedForward.layer.backward(
            calls, pass.stream.activations, input: state.feedForwardNorm.normed.activations,
            recording: state.feedForward.recording, losses: losses[index], into: &pass.inward.activations)
        }
      }
      try clock.measure(.attention) {
        try goBack(
          pass, of: part, through: [layer.attention.queryKeyValue.weight, layer.attention.output.weight],
          after: layer.attentionNorm, state: state.attentionNorm
        ) { calls in
          layer.attention.backward(
            calls, pass.stream, x: state.attentionNorm.normed, sequences: sequences, length: length,
            state: state.attention, scratch: pass.attentionScratch, into: pass.inward, execution: execution)
        }
      }
    }
    try clock.measure(.head) {
      try sumOverRanks([embedding.inputGradient], of: part) {
        embedding.backward(pass.stream, tokens: inputs, execution: execution)
      }
    }
  }

  /// Computes the gradients of a branch of the residual stream and of the norm before it, and adds them to those of
  /// the stream.
  ///
  /// - Parameters:
  ///   - parameters: the parameters of the branch that every rank holds.
  ///   - branch: computes the gradient of the branch's input from the gradient of the stream.
  private func goBack(
    _ pass: Pass, of part: Range<Int>, through parameters: [Parameter], after norm: Norm, state: Norm.State,
    _ branch: (BackwardPart) throws -> Void
  ) throws {
    func backward(_ calls: BackwardPart) {
      norm.backward(calls, pass.inward, state: state, into: pass.stream, execution: execution)
    }
    guard isSummedInOrder else {
      try branch(.all)
      return backward(.all)
    }
    try branch(.input)
    try sumOverRanks((parameters + [norm.gain]).map(\.gradient), of: part) {
      try branch(.parameters)
      backward(.parameters)
    }
    backward(.input)
  }
}

extension FeedForwardBlock {
  var stage: Stage { isMoE ? .moe : .feedForward }
}
