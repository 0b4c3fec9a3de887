internal import CKernels
internal import ExpertParallel
internal import MoE

/// One sequence that grows byte by byte, with the keys and values of the bytes read so far.
///
/// With ranks each call is a collective. The first rank reads the byte. The other ranks compute only their experts,
/// and get the logits from the first rank.
public final class Decoder {
  private let model: LanguageModel
  private let pass: Pass
  /// The rotated keys and the values of each layer: [S, 3D] like the projection. The columns of the queries are not
  /// used.
  private let caches: [Memory]
  private let scores: Memory
  /// A pass without tokens, for ranks other than the first, which compute only their experts; nil on the first rank.
  private let empty: Pass?
  /// The number of bytes read so far.
  public private(set) var position = 0

  init(_ model: LanguageModel) throws {
    self.model = model
    pass = try Pass(model, sequences: 1, length: 1)
    let (context, hidden) = (model.configuration.contextLength, model.configuration.hiddenSize)
    var caches: [Memory] = []
    for _ in model.layers { caches.append(try Memory(floats: context * 3 * hidden)) }
    self.caches = caches
    scores = try Memory(floats: Attention.width(context))
    empty = try model.ranks.flatMap { $0.isFirst ? nil : try Pass(model, sequences: 0, length: 1) }
  }

  /// Reads a byte and returns the logits of the next byte: `[256]`.
  ///
  /// - Throws: `MoEError.invalidConfiguration` where the context is full, `MoEError.diverged` for a
  ///   model whose numbers are not finite.
  public func logits(after byte: UInt8) throws -> [Float] {
    let configuration = model.configuration
    guard position < configuration.contextLength else {
      throw MoEError.invalidConfiguration("the context of \(configuration.contextLength) bytes is full")
    }
    defer { position += 1 }
    var logits = [Float](repeating: 0, count: configuration.vocabularySize)
    if let empty {
      for (index, layer) in model.layers.enumerated() where layer.feedForward.layer.isSpread {
        try evaluate(layer.feedForward, empty, index)
      }
    } else {
      try computeLogits(after: byte)
      for index in logits.indices { unsafe logits[index] = pass.logits.floats[index] }
    }
    if let communicator = model.ranks?.communicator {
      logits = try communicator.broadcast(logits, root: 0, during: "a byte of text")
    }
    guard logits.allSatisfy(\.isFinite) else {
      throw MoEError.diverged("the logits after byte \(position) are not finite")
    }
    return logits
  }

  /// Reads a byte and leaves the logits of the next byte in the pass.
  private func computeLogits(after byte: UInt8) throws {
    let execution = model.execution
    model.embedding.forward([byte], into: pass.embedded, execution: execution)
    var stream = pass.embedded
    var addend: Rows?
    for (index, layer) in model.layers.enumerated() {
      let state = pass.layers[index]
      layer.attentionNorm.forward(stream, addend: addend, into: state.attentionNorm, execution: execution)
      attend(layer.attention, state.attentionNorm.normed, cache: caches[index], execution)
      layer.feedForwardNorm.forward(
        state.attentionNorm.sum, addend: pass.branch, into: state.feedForwardNorm, execution: execution)
      try evaluate(layer.feedForward, pass, index)
      stream = state.feedForwardNorm.sum
      addend = pass.branch
    }
    model.finalNorm.forward(stream, addend: addend, into: pass.finalNorm, execution: execution)
    unsafe model.embedding.projection.forward(
      pass.finalNorm.normed.floats, sequences: 1, length: 1, into: pass.logits.floats, execution: execution)
  }

  /// Applies a feed-forward block to the byte of `pass`, or to no byte if `pass` has no tokens.
  private func evaluate(_ feedForward: FeedForward, _ pass: Pass, _ index: Int) throws {
    try feedForward.layer.evaluate(
      pass.layers[index].feedForwardNorm.normed.activations, into: &pass.branch.activations,
      record: &pass.layers[index].feedForward.evaluation)
  }

  /// Computes the attention of one query to all keys so far.
  private func attend(_ attention: Attention, _ x: Rows, cache: Memory, _ execution: Execution) {
    let hidden = attention.output.outputSize
    let size = hidden / attention.headCount
    let row = unsafe cache.floats + position * 3 * hidden
    unsafe attention.queryKeyValue.forward(
      x.floats, sequences: 1, length: 1, into: row, execution: execution)
    var rotary = unsafe attention.rotary(length: 1, first: position)
    unsafe moe_rotate(execution.cValue, &rotary, row, 1, Int64(3 * hidden), false)
    let context = unsafe pass.attentionScratch.contextGradient.floats
    for head in 0..<attention.headCount {
      let keys = unsafe cache.floats + hidden + head * size
      unsafe OpenBLAS.multiply(
        .init(row + head * size, stride: 3 * hidden), .init(keys, stride: 3 * hidden, isTransposed: true),
        m: 1,
        n: position + 1, k: size, into: scores.floats, stride: position + 1)
      unsafe moe_causal_softmax(
        execution.instructionSet.cValue, scores.floats, 1, Int64(position),
        Int64(Attention.width(position + 1)), 1 / Float(size).squareRoot())
      unsafe OpenBLAS.multiply(
        .init(scores.floats, stride: position + 1), .init(keys + hidden, stride: 3 * hidden), m: 1, n: size,
        k: position + 1, into: context + head * size, stride: hidden)
    }
    unsafe attention.output.forward(
      context, sequences: 1, length: 1, into: pass.branch.floats, execution: execution)
  }
}

extension LanguageModel {
  /// Makes a decoder that has read nothing yet.
  ///
  /// - Throws: `MoEError.outOfMemory`.
  public func makeDecoder() throws -> Decoder { try Decoder(self) }
}
