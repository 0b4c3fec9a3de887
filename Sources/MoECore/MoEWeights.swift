/// The router's parameters.
public struct RouterWeights: Sendable, Equatable {
  /// `[E, D]`.
  public var weight: Matrix
  /// `[E]`, added to the logits.
  public var bias: [Float]?
  /// `[E]`, added to the scores for selection only (`e_score_correction_bias`).
  public var selectionBias: [Float]?

  /// Makes router parameters.
  public init(weight: Matrix, bias: [Float]? = nil, selectionBias: [Float]? = nil) {
    self.weight = weight
    self.bias = bias
    self.selectionBias = selectionBias
  }
}

/// One feed-forward network: y = act(x·gateᵀ, x·upᵀ)·downᵀ, with a bias added to each product that has one.
public struct FeedForwardWeights: Sendable, Equatable {
  /// `[F, D]`; nil if the activation has no gate.
  public var gate: Matrix?
  /// `[F, D]`.
  public var up: Matrix
  /// `[D, F]`.
  public var down: Matrix
  /// `[F]`.
  public var gateBias: [Float]?
  /// `[F]`.
  public var upBias: [Float]?
  /// `[D]`.
  public var downBias: [Float]?

  /// Makes the parameters of one network.
  public init(
    gate: Matrix?, up: Matrix, down: Matrix, gateBias: [Float]? = nil, upBias: [Float]? = nil,
    downBias: [Float]? = nil
  ) {
    self.gate = gate
    self.up = up
    self.down = down
    self.gateBias = gateBias
    self.upBias = upBias
    self.downBias = downBias
  }

  /// Checks every shape.
  ///
  /// - Throws: ``MoEError/shapeMismatch(what:expected:actual:)``, which names the parameter of `owner`, or
  ///   ``MoEError/invalidConfiguration(_:)`` if the gate is missing or superfluous.
  public func validate(
    hiddenSize: Int, feedForwardSize: Int, isGated: Bool, owner: String
  ) throws(MoEError) {
    let wide = [feedForwardSize, hiddenSize]
    if isGated != (gate != nil) {
      throw .invalidConfiguration(
        "\(owner) \(isGated ? "lacks the gate projection its activation needs" : "has a gate its activation lacks")"
      )
    }
    try check(gate?.shape ?? wide, wide, "the gate projection of \(owner)")
    try check(up.shape, wide, "the up projection of \(owner)")
    try check(down.shape, [hiddenSize, feedForwardSize], "the down projection of \(owner)")
    try check([gateBias?.count ?? feedForwardSize], [feedForwardSize], "the gate bias of \(owner)")
    try check([upBias?.count ?? feedForwardSize], [feedForwardSize], "the up bias of \(owner)")
    try check([downBias?.count ?? hiddenSize], [hiddenSize], "the down bias of \(owner)")
  }
}

/// The gate of a dense branch: x·weightᵀ + bias.
public struct BranchGateWeights: Sendable, Equatable {
  /// `[1, D]` for a sigmoid gate, `[2, D]` for PR-MoE's softmax.
  public var weight: Matrix
  /// One value per row of `weight`.
  public var bias: [Float]?

  /// Makes gate parameters.
  public init(weight: Matrix, bias: [Float]? = nil) {
    self.weight = weight
    self.bias = bias
  }
}

/// A source from which a layer reads its parameters. It gives one expert at a time, so that a checkpoint can be
/// packed even if all its parameters in fp32 do not fit in memory.
public protocol MoEWeightSource {
  /// Returns the router's parameters.
  func router() throws -> RouterWeights
  /// Returns the parameters of expert `index`.
  func expert(_ index: Int) throws -> FeedForwardWeights
  /// Returns the dense branch's network; called only if the configuration has a dense branch.
  func denseBranch() throws -> FeedForwardWeights
  /// Returns the dense branch's gate; called only if the branch has a gate.
  func denseBranchGate() throws -> BranchGateWeights
}

/// All parameters of a layer in memory, in fp32.
public struct MoEWeights: Sendable, Equatable {
  /// The router's parameters.
  public var routerWeights: RouterWeights
  /// One network per expert.
  public var experts: [FeedForwardWeights]
  /// The network of the dense branch, if any.
  public var dense: FeedForwardWeights?
  /// The gate of the dense branch, if any.
  public var denseGate: BranchGateWeights?

  /// Collects parameters without checking their shapes. A layer checks them against its configuration.
  public init(
    router: RouterWeights, experts: [FeedForwardWeights], dense: FeedForwardWeights? = nil,
    denseGate: BranchGateWeights? = nil
  ) {
    routerWeights = router
    self.experts = experts
    self.dense = dense
    self.denseGate = denseGate
  }

  /// Reads from `source` all parameters that `configuration` needs.
  public init(reading source: some MoEWeightSource, for configuration: MoEConfiguration) throws {
    routerWeights = try source.router()
    experts = try (0..<configuration.expertCount).map { try source.expert($0) }
    if let branch = configuration.denseBranch {
      dense = try source.denseBranch()
      if branch.gateRows > 0 { denseGate = try source.denseBranchGate() }
    }
  }

  /// Returns random parameters, scaled so that outputs are about as large as inputs. One seed gives the same
  /// parameters on every machine.
  public static func random(for configuration: MoEConfiguration, seed: UInt64) -> MoEWeights {
    var generator = SeededGenerator(seed: seed)
    let hidden = configuration.hiddenSize
    func network(_ feedForwardSize: Int) -> FeedForwardWeights {
      func matrix(_ rows: Int, _ columns: Int) -> Matrix {
        .normal(rows: rows, columns: columns, deviation: 1 / Float(columns).squareRoot(), using: &generator)
      }
      let gate = configuration.activation.isGated ? matrix(feedForwardSize, hidden) : nil
      let up = matrix(feedForwardSize, hidden)
      return FeedForwardWeights(gate: gate, up: up, down: matrix(hidden, feedForwardSize))
    }
    let deviation = 1 / Float(hidden).squareRoot()
    let router = Matrix.normal(
      rows: configuration.expertCount, columns: hidden, deviation: deviation, using: &generator)
    let experts = (0..<configuration.expertCount).map { _ in network(configuration.feedForwardSize) }
    var weights = MoEWeights(router: RouterWeights(weight: router), experts: experts)
    if let branch = configuration.denseBranch {
      weights.dense = network(branch.feedForwardSize)
      if branch.gateRows > 0 {
        weights.denseGate = BranchGateWeights(
          weight: .normal(
            rows: branch.gateRows, columns: hidden, deviation: deviation, using: &generator))
      }
    }
    return weights
  }
}

extension MoEWeights: MoEWeightSource {
  /// Returns the router's parameters.
  public func router() -> RouterWeights { routerWeights }

  /// Returns the parameters of expert `index`.
  ///
  /// - Throws: ``MoEError/invalidConfiguration(_:)`` if no expert has this index.
  public func expert(_ index: Int) throws -> FeedForwardWeights {
    guard experts.indices.contains(index) else {
      throw MoEError.invalidConfiguration(
        "expert \(index) is missing: the weights have \(experts.count) experts")
    }
    return experts[index]
  }

  /// Returns the dense branch's network.
  ///
  /// - Throws: ``MoEError/invalidConfiguration(_:)`` if the weights have no dense branch.
  public func denseBranch() throws -> FeedForwardWeights {
    guard let dense else { throw MoEError.invalidConfiguration("the weights have no dense branch") }
    return dense
  }

  /// Returns the dense branch's gate.
  ///
  /// - Throws: ``MoEError/invalidConfiguration(_:)`` if the weights have no gate for the dense branch.
  public func denseBranchGate() throws -> BranchGateWeights {
    guard let denseGate else {
      throw MoEError.invalidConfiguration("the weights have no gate for the dense branch")
    }
    return denseGate
  }
}

/// Throws unless two shapes agree.
package func check(_ actual: [Int], _ expected: [Int], _ what: @autoclosure () -> String) throws(MoEError) {
  if actual != expected { throw .shapeMismatch(what: what(), expected: expected, actual: actual) }
}
