internal import MoECore

/// The backward pass of a router or of a dense branch's gate.
extension PackedRouter {
  /// Adds the gradients of the tokens to `inputGradient` [T, D].
  ///
  /// - Parameters:
  ///   - tokens: the router's input in the forward pass [T, D].
  ///   - choices: the choices of a recorded pass.
  ///   - rows: the rows of these choices; nil for a gate, which drops nothing.
  ///   - weightGradients: dL/dweights [T, K].
  ///   - losses: the contribution of the router's losses.
  /// - Returns: the factors of the parameters' gradients.
  func backward(
    _ tokens: MemoryView<Float>, _ choices: RouterChoices, rows: ChoiceRows?,
    weightGradients: MemoryView<Float>, losses: RouterLossGradients, into inputGradient: MemoryView<Float>,
    execution: Execution,
    memory: inout RouterGradientScratch, scratch: inout CallScratch
  ) throws(MoEError) -> RouterGradientTiles {
    if policy.assignment == .expertChoice(.softmaxOverTokens) {
      throw .unsupported("experts that choose by the softmax over tokens have no backward pass")
    }
    let logitGradients = try Kernels.routerBackward(
      choices, rows: rows, policy: policy, weightGradients: weightGradients, losses: losses,
      execution: execution,
      memory: &memory, scratch: &scratch)
    let all = try RowGroups(allOf: choices.tokenCount, in: &memory.offsets)
    let logitTiles = try Kernels.gather(
      logitGradients, width: expertCount, all, weights: nil, precision: .float32, execution: execution,
      into: &memory.logitTiles)
    guard let noise = choices.noise, policy.noise.changesInput else {
      let tokenTiles = try Kernels.gather(
        tokens, width: hiddenSize, all, weights: nil, precision: .float32, execution: execution,
        into: &memory.tokenTiles)
      try Kernels.groupedGEMMBackward(
        logitTiles, weightPanels, adding: true, into: inputGradient, execution: execution, scratch: &scratch)
      return RouterGradientTiles(logits: logitTiles, tokens: tokenTiles)
    }
    // With jitter the router read a copy of the input; the copy's gradient is multiplied by the same factors.
    let copy = try memory.jitteredTokens.reserve(tokens.count, of: Float.self)
    Kernels.jitter(
      tokens, hiddenSize: hiddenSize, policy.noise, noise: noise, into: copy, adding: false,
      execution: execution)
    let tokenTiles = try Kernels.gather(
      copy, width: hiddenSize, all, weights: nil, precision: .float32, execution: execution,
      into: &memory.tokenTiles)
    copy.fill(0)
    try Kernels.groupedGEMMBackward(
      logitTiles, weightPanels, adding: true, into: copy, execution: execution, scratch: &scratch)
    Kernels.jitter(
      copy, hiddenSize: hiddenSize, policy.noise, noise: noise, into: inputGradient, adding: true,
      execution: execution)
    return RouterGradientTiles(logits: logitTiles, tokens: tokenTiles)
  }

  /// Adds the gradients of the router's parameters to `sums`, token after token.
  func addGradients(
    of pass: RouterGradientTiles, to sums: RouterGradients, execution: Execution, scratch: inout CallScratch
  ) throws(MoEError) {
    try Kernels.groupedGEMMWeights(
      pass.tokens, pass.logits, only: nil, to: sums.panels, execution: execution, scratch: &scratch)
    Kernels.groupSums(pass.logits, only: nil, to: [sums.bias], execution: execution)
  }

  /// The weights in the type of a grouped product's weights.
  private var weightPanels: Panels {
    Panels(memory: panels, depth: hiddenSize, precision: .float32)
  }
}
