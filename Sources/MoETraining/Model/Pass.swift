internal import MoE

/// The buffers of a pass over B sequences of S tokens, which the next pass of that shape uses again.
final class Pass {
  /// The buffers of one layer.
  struct Layer {
    let attentionNorm: Norm.State
    let attention: Attention.State
    let feedForwardNorm: Norm.State
    let feedForward: FeedForward.State
  }

  let sequences: Int
  let length: Int
  let embedded: Rows
  let layers: [Layer]
  let finalNorm: Norm.State
  let logits: Memory
  let losses: Memory
  /// The output of a branch of the residual stream, until the next norm adds it to the stream.
  let branch: Rows
  let attentionScratch: Attention.Scratch
  /// The gradients of the residual stream (`stream`) and of the input of a branch (`inward`).
  let stream: Rows
  let inward: Rows

  var tokenCount: Int { sequences * length }

  init(_ model: LanguageModel, sequences: Int, length: Int) throws(MoEError) {
    self.sequences = sequences
    self.length = length
    let hidden = model.configuration.hiddenSize
    func rows() throws(MoEError) -> Rows {
      try Rows(sequences: sequences, length: length, width: hidden)
    }
    func norm() throws(MoEError) -> Norm.State {
      try Norm.State(sequences: sequences, length: length, width: hidden)
    }
    embedded = try rows()
    var layers: [Layer] = []
    for layer in model.layers {
      layers.append(
        Layer(
          attentionNorm: try norm(),
          attention: try Attention.State(
            layer.attention, sequences: sequences, length: length,
            isRecomputed: model.extent == .recompute),
          feedForwardNorm: try norm(), feedForward: FeedForward.State(model.extent)))
    }
    self.layers = layers
    finalNorm = try norm()
    logits = try Memory(floats: sequences * length * model.configuration.vocabularySize)
    losses = try Memory(floats: sequences * length)
    branch = try rows()
    attentionScratch = try Attention.Scratch(model.layers[0].attention, sequences: sequences, length: length)
    stream = try rows()
    inward = try rows()
  }

  /// Returns where the first number that is not finite is. `place` grows in the order of computation. Where all
  /// values before the feed-forward block of layer `last` are finite, the answer is that layer's router, or the
  /// logits if `last` is the number of layers.
  func firstNonFinite(upTo last: Int) -> (place: Int, text: String) {
    func isFinite(_ rows: Rows) -> Bool {
      unsafe rows.activations.tokens.withUnsafeBufferPointer { unsafe $0.allSatisfy(\.isFinite) }
    }
    func block(before index: Int) -> String {
      index == 0
        ? "the embedding is not finite" : "layer \(index - 1)'s feed-forward block is not finite"
    }
    for index in 0..<min(last + 1, layers.count) {
      if !isFinite(layers[index].attentionNorm.sum) { return (2 * index, block(before: index)) }
      if !isFinite(layers[index].feedForwardNorm.sum) {
        return (2 * index + 1, "layer \(index)'s attention is not finite")
      }
    }
    if last < layers.count { return (2 * last + 2, "layer \(last)'s router is not finite") }
    return isFinite(finalNorm.sum)
      ? (2 * last + 1, "the logits are not finite") : (2 * last, block(before: layers.count))
  }
}
