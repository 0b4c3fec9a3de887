/// The bytes of the rank that needs most memory.
public struct MemoryEstimate: Sendable, Equatable, Codable {
  /// Parameters as the products read them.
  public var parameters: Double
  /// fp32 masters beside parameters of two bytes.
  public var masters: Double
  /// Gradients, in fp32.
  public var gradients: Double
  /// The optimizer's state.
  public var optimizer: Double
  /// Values that forward passes keep for the backward pass.
  public var activations: Double
  /// Memory from which one layer sends and into which it receives.
  public var buffers: Double

  /// The sum of all parts.
  public var total: Double { parameters + masters + gradients + optimizer + activations + buffers }

  /// Returns the number of parameters of a rank: a TP-th of ⌈E/EP⌉ experts of each layer, and all shared parameters.
  package static func parameterCount(_ model: ModelShape, _ split: Split) -> Int {
    let experts = (model.expertCount + split.expertParallel - 1) / split.expertParallel
    return model.layerCount * experts * (model.expertParameters / split.tensorParallel)
      + model.sharedParameters
  }

  /// With t tokens and M rows, a full recording keeps M·(2·D + 3·F) values with a gate or M·(2·D + 2·F) without, and
  /// t·(K·D + K + E). A recording of the routing alone keeps t·(K + E), and one layer's activations during its
  /// backward pass. Attention keeps 6·D values per token: the normed input, queries, keys, values, the heads' output
  /// and its sum. Each layer keeps its input, D values per token, and the output projection V logits per token. The
  /// scores of attention are not counted.
  ///
  /// - Parameter rows: M, the largest over ranks and layers.
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
    // Tokens and rows, each once to send and once to receive.
    buffers =
      2 * (rows + tokens * chosen * Double(split.tensorParallel)) * hidden * Double(workload.payloadBytes)
  }
}
