internal import MoE

/// The parameters of a new model: normal with deviation 1/√(inputs). The last matrix of each branch of the residual
/// stream is smaller, because the stream adds up the branches of many layers.
///
/// Each tensor has its own random generator, so its values depend only on the seed and on the tensor's place.
struct InitialWeights {
  let seed: UInt64
  /// The factor of the last matrix of every branch of the residual stream: 1/√(2·layers).
  let outputScale: Float

  /// Makes a matrix [rows, columns]; `place` is the number of the tensor in the model.
  func matrix(_ rows: Int, _ columns: Int, scale: Float = 1, place: Int) -> Matrix {
    var seeds = SeededGenerator(seed: seed)
    var generator = SeededGenerator(seed: seeds.next() &+ UInt64(place) &* 0x9E37_79B9_7F4A_7C15)
    _ = generator.next()
    return .normal(
      rows: rows, columns: columns, deviation: scale / Float(columns).squareRoot(), using: &generator)
  }

  /// Returns the router, experts and dense branch of a layer. The router's deviation is √0.1 of the usual one (Switch
  /// §2.4). Biases begin at 0.
  ///
  /// - Parameter configuration: the layer configuration of `block`.
  func layer(_ configuration: MoEConfiguration, _ block: FeedForwardBlock, index: Int) -> Source {
    Source(weights: self, configuration: configuration, block: block, firstPlace: (index + 1) << 24)
  }

  /// The parameters of one layer, each made when it is asked for.
  struct Source: MoEWeightSource {
    let weights: InitialWeights
    let configuration: MoEConfiguration
    let block: FeedForwardBlock
    let firstPlace: Int

    func router() -> RouterWeights {
      let (experts, hidden) = (configuration.expertCount, configuration.hiddenSize)
      let weight =
        block.isMoE
        ? weights.matrix(experts, hidden, scale: 0.316_227_77, place: firstPlace)
        : Matrix(rows: experts, columns: hidden)
      return RouterWeights(
        weight: weight, bias: block.isMoE ? bias(experts) : nil,
        selectionBias: block.routing == .deepSeekV3 ? Array(repeating: 0, count: experts) : nil)
    }

    func expert(_ index: Int) -> FeedForwardWeights {
      network(configuration.feedForwardSize, place: firstPlace + 8 + 3 * index)
    }

    func denseBranch() -> FeedForwardWeights {
      network(configuration.denseBranch?.feedForwardSize ?? 0, place: firstPlace + 2)
    }

    func denseBranchGate() -> BranchGateWeights {
      let rows = configuration.denseBranch?.gateRows ?? 0
      return BranchGateWeights(
        weight: weights.matrix(
          rows, configuration.hiddenSize, scale: 0.316_227_77, place: firstPlace + 1),
        bias: bias(rows))
    }

    private func network(_ inner: Int, place: Int) -> FeedForwardWeights {
      let hidden = configuration.hiddenSize
      return FeedForwardWeights(
        gate: configuration.activation.isGated ? weights.matrix(inner, hidden, place: place + 2) : nil,
        up: weights.matrix(inner, hidden, place: place),
        down: weights.matrix(hidden, inner, scale: weights.outputScale, place: place + 1),
        gateBias: configuration.activation.isGated ? bias(inner) : nil, upBias: bias(inner),
        downBias: bias(hidden))
    }

    /// Returns zeros; nil where the block has no biases.
    private func bias(_ count: Int) -> [Float]? {
      block.hasBiases ? Array(repeating: 0, count: count) : nil
    }
  }
}
