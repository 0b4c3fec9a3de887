internal import CKernels
internal import MoECore

extension Kernels {
  /// Back through a router or a branch's gate: from dL/dweights [T, K] to the gradients of the tokens, which it adds to
  /// `inputGradient` [T, D].
  ///
  /// - Parameters:
  ///   - tiles: keeps what ``routerGradients(gradients:hiddenSize:execution:tiles:)`` reads.
  static func routerBackward(
    _ router: PackedRouter, input: UnsafePointer<Float>, tokenCount: Int, logits: UnsafePointer<Float>,
    expertIDs: UnsafePointer<Int32>, weightGradients: UnsafePointer<Float>, losses: RouterLossGradients,
    noise: RouterNoise?, inputGradient: UnsafeMutablePointer<Float>, execution: Execution,
    tiles: inout RouterTiles, copies: inout RouterCopies, scratch: inout Scratch
  ) throws(MoEError) {
    let ex = execution.cValue
    let (tokens, hidden) = (Int64(tokenCount), Int64(router.hiddenSize))
    let experts = Int64(router.expertCount)
    var rule = router.policy.cRule(noise)
    let kernel = unsafe try scratch.reserve(
      bytes: max(moe_router_backward_scratch_bytes(ex, experts), moe_grouped_gemm_scratch_bytes(ex)))
    let logitGradients = unsafe try tiles.logitGradients.reserve(
      tokenCount * router.expertCount, of: Float.self)
    let terms = unsafe try losses.probabilityGradients(in: &copies.probabilityGradients)
    var routes = unsafe moe_routes(
      T: tokens, E: experts, K: Int64(router.expertsPerToken), logits: logits, expert_ids: expertIDs)
    unsafe terms.withUnsafeBufferPointer { terms in
      var losses = unsafe moe_router_losses(
        probability: terms.baseAddress, count: Int64(terms.count),
        logsumexp_gradient: losses.logSumExpFactor)
      unsafe moe_router_backward(
        ex, &rule, &routes, weightGradients, &losses, logitGradients, kernel)
    }
    let offsets = unsafe try tiles.offsets.reserve(2, of: Int64.self)
    unsafe offsets[0] = 0
    unsafe offsets[1] = tokens
    let group = unsafe moe_groups(E: 1, offsets: offsets)
    func bytes(_ width: Int64) -> Int {
      moe_rows_bytes(execution.instructionSet.cValue, MOE_FLOAT32, tokens, 1, width)
    }
    let logitTiles = unsafe try tiles.logitTiles.reserve(bytes: bytes(experts))
      .assumingMemoryBound(to: Float.self)
    let tokenTiles = unsafe try tiles.tokenTiles.reserve(bytes: bytes(hidden))
    unsafe moe_gather_rows(ex, MOE_FLOAT32, group, logitGradients, experts, nil, nil, logitTiles)
    // With jitter the router read a copy of the input, whose gradient passes the same factors.
    let jittered = noise.flatMap { $0.inputJitter > 0 ? $0 : nil }
    let copy = unsafe try copies.jitteredTokens.reserve(
      jittered == nil ? 0 : tokenCount * router.hiddenSize, of: Float.self)
    if let jittered {
      unsafe jitter(
        input, tokenCount: tokenCount, hiddenSize: router.hiddenSize, noise: jittered, into: copy,
        adding: false, execution: execution)
    }
    unsafe moe_gather_rows(
      ex, MOE_FLOAT32, group, jittered == nil ? input : UnsafePointer(copy), hidden, nil, nil, tokenTiles)
    let back = unsafe jittered == nil ? inputGradient : copy
    if jittered != nil { unsafe copy.update(repeating: 0, count: tokenCount * router.hiddenSize) }
    unsafe moe_grouped_gemm_backward(
      ex, MOE_FLOAT32, group, moe_tiles(data: logitTiles, columns: experts), router.panels.floats, hidden,
      true, back, kernel)
    if let jittered {
      unsafe jitter(
        copy, tokenCount: tokenCount, hiddenSize: router.hiddenSize, noise: jittered, into: inputGradient,
        adding: true, execution: execution)
    }
  }

  /// Adds the gradients of the parameters of a router or of a branch's gate to `gradients`, token after token.
  ///
  /// - Parameters:
  ///   - tiles: as `routerBackward` left them.
  static func routerGradients(
    gradients: RouterGradients, hiddenSize: Int, execution: Execution, tiles: inout RouterTiles
  ) throws(MoEError) {
    let ex = execution.cValue
    let offsets = unsafe try tiles.offsets.reserve(2, of: Int64.self)
    let group = unsafe moe_groups(E: 1, offsets: offsets)
    let logitTiles = unsafe moe_tiles(
      data: try tiles.logitTiles.reserve(bytes: 0), columns: Int64(gradients.panelCount) * Int64(MOE_PANEL))
    let tokenTiles = unsafe moe_tiles(
      data: try tiles.tokenTiles.reserve(bytes: 0), columns: Int64(hiddenSize))
    unsafe moe_grouped_gemm_weights(
      ex, MOE_FLOAT32, group, nil, tokenTiles, logitTiles, gradients.panels.floats, nil)
    unsafe groupSums(
      of: logitTiles, group, included: nil, precision: .float32, into: [gradients.bias], execution: execution)
  }
}
