internal import CKernels
internal import MoE

extension LanguageModel {
  /// Logits of a batch, left in the pass: [B·S, V]. A pass of training has noise and is recorded; one without is an
  /// evaluation.
  func forward(
    _ inputs: ArraySlice<UInt8>, _ pass: Pass, noise: RouterNoise?, clock: inout StageClock
  ) throws(MoEError) {
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
      try clock.measure(layer.feedForward.block.stage) { () throws(MoEError) in
        layer.feedForwardNorm.forward(
          state.attentionNorm.sum, addend: pass.branch, into: state.feedForwardNorm, execution: execution)
        let (input, kept) = (state.feedForwardNorm.normed, state.feedForward)
        do throws(MoEError) {
          if let noise {
            try layer.feedForward.forward(
              input, noise: noise, state: kept, into: pass.branch, workspace: &workspace, execution: execution
            )
          } else {
            try layer.feedForward.evaluate(
              input, state: kept, into: pass.branch, workspace: &workspace, execution: execution)
          }
        } catch .notFinite(let what, let token) {
          throw .diverged("\(what) of token \(token) is NaN or infinite: \(pass.firstNonFinite(upTo: index))")
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

  /// Losses of each token, and the gradient of the mean over `divisor` tokens in place of the logits.
  func crossEntropy(_ targets: ArraySlice<UInt8>, _ pass: Pass, divisor: Int) {
    unsafe targets.withUnsafeBufferPointer { targets in
      unsafe moe_cross_entropy(
        execution.cValue, pass.logits.floats, targets.baseAddress, Int64(targets.count),
        Int64(configuration.vocabularySize), 1 / Float(divisor), pass.losses.floats)
    }
  }

  /// Back from the logits' gradient to the embedding.
  func backward(
    _ inputs: ArraySlice<UInt8>, _ pass: Pass, losses: [RouterLossGradients], clock: inout StageClock
  ) throws(MoEError) {
    let (sequences, length) = (pass.sequences, pass.length)
    clock.measure(.head) {
      unsafe embedding.projection.backward(
        pass.logits.floats, x: pass.finalNorm.normed.floats, sequences: sequences, length: length,
        into: pass.inward.floats, execution: execution)
      unsafe pass.stream.floats.update(repeating: 0, count: pass.tokenCount * configuration.hiddenSize)
      finalNorm.backward(pass.inward, state: pass.finalNorm, into: pass.stream, execution: execution)
    }
    for index in layers.indices.reversed() {
      let (layer, state) = (layers[index], pass.layers[index])
      try clock.measure(layer.feedForward.block.stage) { () throws(MoEError) in
        try layer.feedForward.backward(
          pass.stream, input: state.feedForwardNorm.normed, state: state.feedForward, losses: losses[index],
          into: pass.inward, workspace: &workspace, execution: execution)
        layer.feedForwardNorm.backward(
          pass.inward, state: state.feedForwardNorm, into: pass.stream, execution: execution)
      }
      clock.measure(.attention) {
        layer.attention.backward(
          pass.stream, x: state.attentionNorm.normed, sequences: sequences, length: length,
          state: state.attention, scratch: pass.attentionScratch, into: pass.inward, execution: execution)
        layer.attentionNorm.backward(
          pass.inward, state: state.attentionNorm, into: pass.stream, execution: execution)
      }
    }
    clock.measure(.head) { embedding.backward(pass.stream, tokens: inputs, execution: execution) }
  }
}

extension FeedForwardBlock {
  var stage: Stage { isMoE ? .moe : .feedForward }
}
