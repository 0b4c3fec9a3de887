internal import MoE

/// Everything a pass over B sequences of S tokens keeps, reused by the next of the same shape.
final class Pass {
  /// What it keeps of one layer.
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
  /// What a branch of the residual stream puts out, until the next norm adds it.
  let branch: Rows
  let attentionScratch: Attention.Scratch
  /// Gradients of the residual stream, and of what a branch takes in.
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

  /// Where the first number that is not finite is, if not in the feed-forward block of layer `last`; later places have
  /// larger numbers.
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
