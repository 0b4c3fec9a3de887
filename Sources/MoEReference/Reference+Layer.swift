public import MoECore

extension Reference {
  /// What a layer computes and how it came to it.
  public struct LayerOutput: Sendable, Equatable {
    /// `[T, D]`.
    public var output: [[Double]]
    /// Before dropping.
    public var routing: Routing
    /// After dropping.
    public var permutation: Permutation
    /// The rows of one expert for one scope; nil where nothing can be dropped.
    public var capacity: Int?

    /// `[T, K]`: the weights as applied: 0 where dropped or masked.
    public var appliedWeights: [[Double]] {
      zip(routing.weights, permutation.slots).map { weights, slots in
        zip(weights, slots).map { weight, slot in slot < 0 ? 0 : weight }
      }
    }
  }

  /// A Mixture-of-Experts layer: route, permute, apply the experts, combine, add the dense branch.
  ///
  /// - Parameters:
  ///   - x: `[…, D]`; the extent before D is the sequence, a scope of capacity.
  ///   - weights: the layer's parameters.
  ///   - configuration: the layer's configuration.
  ///   - mask: `[T]`, false for a token that takes no part: it gets the dense branch alone. It still counts
  ///     among the tokens that the capacity is computed from, so that padding does not change the capacity.
  ///   - precision: the precision that is reproduced.
  /// - Throws: `MoEError.notFinite(what:token:)` as
  ///   ``route(logits:policy:selectionBias:expertsPerToken:expertCount:mask:noise:)`` says, and
  ///   `MoEError.invalidConfiguration(_:)` where parameters are missing.
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

  /// The layer after its router, for a routing that something else has decided: with the routing of a
  /// kernel, near ties that the kernel rounds otherwise do not change what the experts are judged on.
  public static func layer(
    _ x: Activations, weights: MoEWeights, configuration: MoEConfiguration, routing: Routing,
    precision: Precision = .exact
  ) throws -> LayerOutput {
    let policy = configuration.routing
    let scopeLength = policy.capacity?.scope == .sequence ? x.sequenceLength : x.tokenCount
    let capacity = policy.capacity?.rule.capacity(
      tokenCount: scopeLength, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken)
    let permutation = permutation(
      expertIDs: routing.expertIDs, weights: routing.weights, expertCount: configuration.expertCount,
      capacity: capacity, priority: policy.capacity?.priority ?? .tokenThenChoice, scopeLength: scopeLength)
    let output = try layer(
      x, weights: weights, configuration: configuration, routing: routing, permutation: permutation,
      precision: precision)
    return LayerOutput(output: output, routing: routing, permutation: permutation, capacity: capacity)
  }

  /// The layer after its permutation, `[T, D]`, for choices and drops that something else has decided.
  public static func layer(
    _ x: Activations, weights: MoEWeights, configuration: MoEConfiguration, routing: Routing,
    permutation: Permutation, precision: Precision = .exact
  ) throws -> [[Double]] {
    let policy = configuration.routing
    let outputs = experts(
      x.tokens, permutation: permutation, routingWeights: routing.weights, experts: weights.experts,
      activation: configuration.activation, placement: policy.weightPlacement, precision: precision)
    var output = combine(
      outputs, permutation: permutation, weights: routing.weights, hiddenSize: configuration.hiddenSize,
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
