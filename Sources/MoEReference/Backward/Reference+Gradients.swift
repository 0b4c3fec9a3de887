public import MoECore

extension Reference {
  /// The gradients of a layer's input and parameters. Each has the shape of its input or parameter.
  ///
  /// Bias gradients are computed even if the layer has no biases. The selection bias has no gradient by definition: it
  /// affects only the choice of experts, and the choice is a constant.
  public struct LayerGradients: Sendable, Equatable {
    /// The gradient of the tokens `[T, D]`.
    public var x: [[Double]]
    /// The gradient of the router's weight `[E, D]`.
    public var routerWeight: [[Double]]
    /// The gradient of the router's bias `[E]`.
    public var routerBias: [Double]
    /// The gradients of each expert's network; zeros for an expert without kept rows.
    public var experts: [FeedForwardGradients]
    /// The gradients of the dense branch's network.
    public var dense: FeedForwardGradients?
    /// The gradient of the weight of the dense branch's gate, `[1, D]` or `[2, D]`.
    public var denseGateWeight: [[Double]]?
    /// The gradient of the bias of the dense branch's gate, `[1]` or `[2]`.
    public var denseGateBias: [Double]?
  }

  /// Computes the backward pass of ``layer(_:weights:configuration:routing:permutation:precision:)`` with the precision
  /// `exact`: the stages of the forward pass in reverse order, each in its own file.
  ///
  /// The chosen experts, the drops, the group masks and SparseMixer's survivors are constants.
  ///
  /// - Parameters:
  ///   - x: the activations `[…, D]`.
  ///   - weights: the layer's parameters.
  ///   - configuration: the layer's configuration.
  ///   - routing: the routing of the forward pass; for the choices of a kernel, the result of
  ///     ``routing(choosing:logits:policy:selectionBias:noise:)``. A masked token has the experts −1 and gets a
  ///     gradient only through the dense branch.
  ///   - permutation: the permutation of the forward pass, which says which choices were kept.
  ///   - outputGradient: the gradient dL/doutput `[T, D]`.
  ///   - loss: the router's own losses, if any, already multiplied by their coefficients.
  ///   - noise: the noise of the pass, if it is a training pass with noise.
  public static func gradients(
    _ x: Activations, weights: MoEWeights, configuration: MoEConfiguration, routing: Routing,
    permutation: Permutation, outputGradient: [[Double]], loss: RouterLoss? = nil, noise: RouterNoise? = nil
  ) throws -> LayerGradients {
    let (policy, activation) = (configuration.routing, configuration.activation)
    let (tokens, router) = (rows(x.tokens), weights.routerWeights)
    let applied = appliedWeights(routing.weights, slots: permutation.slots, policy: policy)
    let inputs = gather(
      tokens, permutation: permutation, weights: applied, placement: policy.weightPlacement)
    let outputs = inputs.enumerated().map { row, z in
      feedForward(z, weights.experts[permutation.expert(ofRow: row)], activation: activation)
    }
    var gradients = LayerGradients(
      x: zeros(tokens.count, configuration.hiddenSize),
      routerWeight: zeros(configuration.expertCount, configuration.hiddenSize),
      routerBias: Array(repeating: 0, count: configuration.expertCount), experts: [])

    // 1. Through the dense branch: its own gradients, and the gradient of the experts' sum.
    var expertsGradient = outputGradient
    if let branch = configuration.denseBranch {
      let sums = combine(
        outputs, permutation: permutation, weights: applied, hiddenSize: configuration.hiddenSize,
        placement: policy.weightPlacement)
      expertsGradient = try gradients.addDenseBranch(
        branch, weights: weights, activation: activation, tokens: tokens, expertsSums: sums,
        outputGradient: outputGradient)
    }

    // 2. From the sum over choices to the experts' output rows and the routing weights.
    let combined = combineBackward(
      outputs, permutation: permutation, weights: applied, placement: policy.weightPlacement,
      outputGradient: expertsGradient)

    // 3. Through the experts.
    let ofExperts = expertsBackward(
      inputs, permutation: permutation, experts: weights.experts, activation: activation,
      outputGradient: combined.rows)
    gradients.experts = ofExperts.parameters

    // 4. From the experts' input rows to the tokens.
    let gathered = gatherBackward(
      tokens, permutation: permutation, weights: applied, placement: policy.weightPlacement,
      rowGradient: ofExperts.inputs)
    gradients.x = sum(gradients.x, gathered.x)

    // 5. From the routing weights and the losses to the logits.
    let logits = logits(x.tokens, router, policy.noise, noise: noise)
    var logitsGradient = routerBackward(
      logits: logits, expertIDs: routing.expertIDs, slots: permutation.slots, policy: policy,
      weightGradient: sum(combined.weights, gathered.weights), noise: noise)
    if let loss {
      let ofLoss = lossBackward(
        loss, logits: logits, expertIDs: routing.expertIDs, policy: policy, noise: noise)
      logitsGradient = sum(logitsGradient, ofLoss)
    }

    // 6. From the logits to the tokens and the router.
    for (token, row) in tokens.enumerated() where routing.expertIDs[token].first != -1 {
      let factors =
        noise.map { inputFactors(policy.noise, $0, token: token, count: row.count) } ?? row.map { _ in 1 }
      let ofLogits = linearBackward(
        zip(row, factors).map { $0 * $1 }, router.weight, outputGradient: logitsGradient[token])
      gradients.x[token] = sum(gradients.x[token], zip(ofLogits.input, factors).map { $0 * $1 })
      gradients.routerWeight = sum(gradients.routerWeight, ofLogits.weight)
      gradients.routerBias = sum(gradients.routerBias, ofLogits.bias)
    }
    return gradients
  }
}

extension Reference.LayerGradients {
  /// Adds the gradients of the dense branch of all tokens; returns the gradient of the experts' sums `[T, D]`.
  fileprivate mutating func addDenseBranch(
    _ branch: MoEConfiguration.DenseBranch, weights: MoEWeights, activation: ActivationFunction,
    tokens: [[Double]], expertsSums: [[Double]], outputGradient: [[Double]]
  ) throws -> [[Double]] {
    let network = try weights.denseBranch()
    let gate = branch.gateRows > 0 ? try weights.denseBranchGate() : nil
    var networkGradients = Reference.FeedForwardGradients(zerosFor: network)
    denseGateWeight = gate.map { Reference.zeros($0.weight.rows, $0.weight.columns) }
    denseGateBias = gate.map { Array(repeating: 0, count: $0.weight.rows) }
    var expertsGradient: [[Double]] = []
    for (token, row) in tokens.enumerated() {
      let ofToken = Reference.denseBranchBackward(
        row, branch, weights: network, gate: gate, activation: activation,
        expertsSum: expertsSums[token], outputGradient: outputGradient[token], into: &networkGradients)
      x[token] = Reference.sum(x[token], ofToken.x)
      expertsGradient.append(ofToken.experts)
      if let ofGate = ofToken.gate {
        denseGateWeight = Reference.sum(denseGateWeight!, ofGate.weight)
        denseGateBias = Reference.sum(denseGateBias!, ofGate.bias)
      }
    }
    dense = networkGradients
    return expertsGradient
  }
}
