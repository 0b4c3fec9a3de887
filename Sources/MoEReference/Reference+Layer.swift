public import MoECore

extension Reference {
  /// The output of a layer, with the routing and the permutation from which it was computed.
  public struct LayerOutput: Sendable, Equatable {
    /// The output `[T, D]`.
    public var output: [[Double]]
    /// The routing before dropping.
    public var routing: Routing
    /// The permutation after dropping.
    public var permutation: Permutation
    /// The capacity of one expert in one scope; nil if the policy drops no choices.
    public var capacity: Int?

    /// `[T, K]`: the weights as applied; 0 for a dropped choice and for a masked token.
    public var appliedWeights: [[Double]]

    /// Makes the output of a given routing and permutation.
    public init(
      output: [[Double]], routing: Routing, permutation: Permutation, capacity: Int?,
      appliedWeights: [[Double]]
    ) {
      self.output = output
      self.routing = routing
      self.permutation = permutation
      self.capacity = capacity
      self.appliedWeights = appliedWeights
    }
  }

  /// Computes a Mixture-of-Experts layer: routes, permutes, applies the experts, combines, and adds the dense branch.
  ///
  /// - Parameters:
  ///   - x: the activations `[…, D]`. The extent before D is the length of a sequence, which can be a scope of
  ///     capacity.
  ///   - weights: the layer's parameters.
  ///   - configuration: the layer's configuration.
  ///   - mask: the mask `[T]`, false for a masked token, which takes no part and gets only the dense branch. Masked
  ///     tokens still count among the tokens from which the capacity is computed, so masking does not change the
  ///     capacity.
  ///   - precision: the precision that is reproduced.
  /// - Throws: `MoEError.notFinite(what:token:)` in the cases of
  ///   ``route(logits:policy:selectionBias:expertsPerToken:expertCount:mask:noise:)``, and
  ///   `MoEError.invalidConfiguration(_:)` if parameters are missing.
  public static func layer(
    _ x: Activations, weights: MoEWeights, configuration: MoEConfiguration, mask: [Bool]? = nil,
    precision: Precision = .exact
  ) throws -> LayerOutput {
    let router = weights.routerWeights
    let routing = try route(
      logits: logits(x.tokens, router), policy: configuration.routing,
      selectionBias: router.selectionBias, expertsPerToken: configuration.expertsPerToken,
      expertCount: configuration.expertCount, mask: mask)
    return try layer(
      x, weights: weights, configuration: configuration, routing: routing, precision: precision)
  }

  /// Computes the layer without its router, for a given routing. Tests give the routing of a kernel: if the kernel
  /// rounds nearly equal scores differently and so chooses other experts, the experts' outputs can still be compared.
  public static func layer(
    _ x: Activations, weights: MoEWeights, configuration: MoEConfiguration, routing: Routing,
    precision: Precision = .exact
  ) throws -> LayerOutput {
    let policy = configuration.routing
    let scopeLength =
      switch policy.capacity?.scope {
      case nil, .batch: x.tokenCount
      case .sequence: x.sequenceLength
      case .group(let size): min(size, max(x.tokenCount, 1))
      }
    let capacity = policy.capacity?.rule.capacity(
      tokenCount: scopeLength, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken)
    let permutation = permutation(
      expertIDs: routing.expertIDs, keys: claimKeys(routing, policy: policy),
      expertCount: configuration.expertCount, capacity: capacity,
      priority: policy.capacity?.priority ?? .tokenThenChoice,
      claimsUntaken: policy.choice.second.isDecidedLater, scopeLength: scopeLength)
    let output = try layer(
      x, weights: weights, configuration: configuration, routing: routing, permutation: permutation,
      precision: precision)
    return LayerOutput(
      output: output, routing: routing, permutation: permutation, capacity: capacity,
      appliedWeights: appliedWeights(routing.weights, slots: permutation.slots, policy: policy))
  }

  /// Computes the layer's output `[T, D]` for a given routing and permutation, which decide all choices and drops.
  public static func layer(
    _ x: Activations, weights: MoEWeights, configuration: MoEConfiguration, routing: Routing,
    permutation: Permutation, precision: Precision = .exact
  ) throws -> [[Double]] {
    let policy = configuration.routing
    let applied = appliedWeights(routing.weights, slots: permutation.slots, policy: policy)
    let outputs = experts(
      x.tokens, permutation: permutation, routingWeights: applied, experts: weights.experts,
      activation: configuration.activation, placement: policy.weightPlacement, precision: precision)
    var output = combine(
      outputs, permutation: permutation, weights: applied, hiddenSize: configuration.hiddenSize,
      placement: policy.weightPlacement)
    if let branch = configuration.denseBranch {
      let dense = try weights.denseBranch()
      let gate = branch.gateRows > 0 ? try weights.denseBranchGate() : nil
      for (token, row) in rows(x.tokens).enumerated() {
        let (y, a, b) = denseBranch(
          row, branch, weights: dense, gate: gate, activation: configuration.activation,
          precision: precision)
        output[token] = zip(output[token], y).map { a * $0 + b * $1 }
      }
    }
    return output
  }
}
