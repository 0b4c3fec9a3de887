internal import ExpertParallel
internal import Foundation
public import MoE

/// A decoder-only transformer over bytes with its gradients. Forward and backward passes are written by hand, without
/// a graph.
///
/// The residual stream runs through embedding → (norm, attention, norm, feed-forward)·L → norm → embeddingᵀ. One
/// task at a time may use a model.
public final class LanguageModel {
  /// One layer of the stream.
  struct Layer {
    let attentionNorm: Norm
    let attention: Attention
    let feedForwardNorm: Norm
    let feedForward: FeedForward
  }

  /// The sizes and layers of the model.
  public let configuration: ModelConfiguration
  /// All parameters that an optimizer changes, in the order and with the names of a checkpoint. Of the experts, these
  /// are the ones that this rank holds.
  public let parameters: [Parameter]
  /// The ranks that compute the model together; nil for this process alone.
  public let ranks: Ranks?
  let extent: Recording.Extent
  let execution: Execution
  /// The sums over ranks that were begun and are not complete, in order.
  var openSums: [() throws -> Void] = []
  let embedding: Embedding
  let layers: [Layer]
  let finalNorm: Norm
  private var passes: [[Int]: Pass] = [:]

  /// Makes a model with random parameters, which depend on the seed and not on the number of ranks. With ranks a
  /// collective.
  ///
  /// - Parameters:
  ///   - configuration: the sizes and layers of the model.
  ///   - seed: the seed of the parameters.
  ///   - precision: the precision of the feed-forward networks' products. The parameters and all other values are in
  ///     fp32.
  ///   - recording: whether a training step keeps the activations of experts and the attention scores, or computes
  ///     them again.
  ///   - ranks: the ranks over which experts are spread and batches are split; nil for this process alone.
  ///   - execution: nil for `Execution.automatic()`; local ranks share the processors.
  /// - Throws: `MoEError` for sizes that cannot be used, and `CommunicationError`.
  public init(
    _ configuration: ModelConfiguration, seed: UInt64, precision: Precision = .float32,
    recording: Recording.Extent = .full, over ranks: Ranks? = nil, execution: Execution? = nil
  ) throws {
    try configuration.validate()
    // The memory of new parameters is allocated without an error that could be caught, so a model that is far too
    // large is refused here.
    let bytes = 4 * configuration.parameterCount(shareOfExperts: 1 / Double(ranks?.communicator.size ?? 1))
    if bytes > Double(ProcessInfo.processInfo.physicalMemory) {
      throw MoEError.outOfMemory(bytes: Int(bytes))
    }
    OpenBLAS.prepare
    let execution = if let execution { execution } else { try Execution.automatic() }
    self.configuration = configuration
    self.execution = execution
    self.ranks = ranks
    extent = recording
    let hidden = configuration.hiddenSize
    let weights = InitialWeights(
      seed: seed, outputScale: 1 / Float(2 * configuration.layerCount).squareRoot())
    let table = try Parameter(
      name: "embedding", matrix: weights.matrix(configuration.vocabularySize, hidden, place: 0))
    embedding = try Embedding(table)
    let positions = try RotaryTable(
      positions: configuration.contextLength, headSize: hidden / configuration.headCount,
      base: configuration.rotaryBase)
    var parameters = [table]
    func norm(_ name: String, gain: Float = 1) throws(MoEError) -> Norm {
      var gains = Matrix(rows: 1, columns: hidden)
      for column in 0..<hidden { gains[0, column] = gain }
      let gain = try Parameter(name: name, decays: false, matrix: gains)
      parameters.append(gain)
      return Norm(gain: gain, epsilon: configuration.normEpsilon)
    }
    func linear(_ name: String, _ rows: Int, scale: Float = 1, place: Int) throws(MoEError) -> Linear {
      let weight = try Parameter(
        name: name, matrix: weights.matrix(rows, hidden, scale: scale, place: place))
      parameters.append(weight)
      return Linear(weight)
    }
    let workspace = LayerWorkspace()
    var layers: [Layer] = []
    for (index, block) in configuration.blocks.enumerated() {
      let name = "layers.\(index)"
      let attentionNorm = try norm("\(name).attention_norm")
      let attention = Attention(
        queryKeyValue: try linear("\(name).attention.query_key_value", 3 * hidden, place: 2 * index + 1),
        output: try linear(
          "\(name).attention.output", hidden, scale: weights.outputScale, place: 2 * index + 2),
        headCount: configuration.headCount, positions: positions)
      let feedForwardNorm = try norm("\(name).feed_forward_norm")
      let feedForward = try FeedForward(
        block, hiddenSize: hidden, index: index, weights: weights, precision: precision,
        ranks: ranks, workspace: workspace, execution: execution)
      parameters += feedForward.parameters
      layers.append(
        Layer(
          attentionNorm: attentionNorm, attention: attention, feedForwardNorm: feedForwardNorm,
          feedForward: feedForward))
    }
    self.layers = layers
    // In a new model the last stream still contains the token's own embedding. With a gain of 1 the logit of that
    // token would be √D.
    finalNorm = try norm("final_norm", gain: 0.3)
    self.parameters = parameters
  }

  /// The routers' selection biases by name. No gradient changes them, but they are part of a checkpoint.
  public var selectionBiases: [String: [Float]] {
    get {
      var biases: [String: [Float]] = [:]
      for layer in layers {
        if let bias = layer.feedForward.layer.selectionBias {
          biases["layers.\(layer.feedForward.index).selection_bias"] = bias
        }
      }
      return biases
    }
    set {
      for layer in layers {
        if let bias = newValue["layers.\(layer.feedForward.index).selection_bias"] {
          layer.feedForward.layer.selectionBias = bias
        }
      }
    }
  }

  /// The numbers of parameters over all ranks: all, the ones that one token passes, and the ones of experts.
  public var parameterCounts: (total: Int, activePerToken: Int, experts: Int) {
    var active = parameters.reduce(0) { $0 + ($1.group == .expert ? 0 : $1.elementCount) }
    var (total, experts) = (active, 0)
    for layer in layers {
      let block = layer.feedForward.block
      for parameter in layer.feedForward.parameters where parameter.group == .expert {
        let each = parameter.elementCount / parameter.experts.count
        experts += each * block.expertCount
        active += each * block.expertsPerToken
      }
    }
    total += experts
    return (total, active, experts)
  }

  /// Returns the buffers for batches of this shape.
  func pass(sequences: Int, length: Int) throws(MoEError) -> Pass {
    if let pass = passes[[sequences, length]] { return pass }
    let pass = try Pass(self, sequences: sequences, length: length)
    passes[[sequences, length]] = pass
    return pass
  }

  /// Checks a batch against the model, and returns its number of sequences.
  func check(_ inputs: [UInt8], _ targets: [UInt8], _ length: Int) throws(MoEError) -> Int {
    guard (1...configuration.contextLength).contains(length) else {
      throw .invalidConfiguration(
        "sequences have \(length) tokens, the model takes 1 to \(configuration.contextLength)")
    }
    guard inputs.count > 0, inputs.count % length == 0, targets.count == inputs.count else {
      throw .shapeMismatch(
        what: "the batch", expected: [max(inputs.count / length, 1), length],
        actual: [inputs.count, targets.count])
    }
    return inputs.count / length
  }
}
