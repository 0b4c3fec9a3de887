/// Bytes of the rank that needs most.
public struct MemoryEstimate: Sendable, Equatable, Codable {
  /// Parameters as they are computed with.
  public var parameters: Double
  /// fp32 masters beside parameters of two bytes.
  public var masters: Double
  /// Sums of gradients, in fp32.
  public var gradients: Double
  /// What the optimizer keeps.
  public var optimizer: Double
  /// What forward passes leave for the backward pass.
  public var activations: Double
  /// What is sent from and received into, of one layer at a time.
  public var buffers: Double

  /// All of it.
  public var total: Double { parameters + masters + gradients + optimizer + activations + buffers }

  /// Parameters that a rank holds: ⌈E/EP⌉ experts of each layer, a TP-th of each, and what all ranks hold.
  package static func parameterCount(_ model: ModelShape, _ split: Split) -> Int {
    let experts = (model.expertCount + split.expertParallel - 1) / split.expertParallel
    return model.layerCount * experts * (model.expertParameters / split.tensorParallel)
      + model.sharedParameters
  }

  /// A full recording keeps M·(2·D + 3·F) values with a gate, M·(2·D + 2·F) without, and t·(K·D + K + E); one of the
  /// routing alone, t·(K + E), and one layer's activations while it is gone back through. Attention keeps 6·D values
  /// of a token (the normed input, queries, keys, values, the heads' output and its sum) and each layer its input; the output projection keeps V logits of a token. The scores of attention are not
  /// counted.
  ///
  /// - Parameter rows: M, of the rank with most, in the layer with most.
  init(model: ModelShape, workload: Workload, split: Split, rankCount: Int, rows: Double) {
    let count = Double(Self.parameterCount(model, split))
    let tokens = Double(workload.tokenCount) / Double(rankCount)
    let (hidden, chosen) = (Double(model.hiddenSize), Double(model.expertsPerToken))
    let inner = Double(model.feedForwardSize / split.tensorParallel)
    parameters = count * Double(workload.parameterBytes)
    masters = workload.trains && workload.parameterBytes == 2 ? count * 4 : 0
    gradients = workload.trains ? count * 4 : 0
    optimizer = workload.trains ? count * Double(workload.optimizer.stateBytes) : 0
    let kept = rows * (2 * hidden + (model.isGated ? 3 : 2) * inner) + tokens * chosen * hidden
    let routing = tokens * (chosen + Double(model.expertCount))
    let dense =
      tokens
      * (hidden * (model.hasAttention ? 7 : 0)
        + Double(model.sharedFeedForwardSize * (model.isGated ? 3 : 2)))
    let layers = Double(model.layerCount)
    if !workload.trains {
      activations = 4 * (kept + routing + dense)
    } else if workload.recomputes {
      activations = 4 * (layers * (routing + dense) + kept)
    } else {
      activations = 4 * layers * (kept + routing + dense)
    }
    activations += 4 * tokens * Double(model.vocabularySize)
    // Tokens and rows as they are sent and as they come, both ways.
    buffers =
      2 * (rows + tokens * chosen * Double(split.tensorParallel)) * hidden * Double(workload.payloadBytes)
  }
}
