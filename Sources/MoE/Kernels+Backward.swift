internal import CKernels
internal import MoECore

extension Kernels {
  /// Back through a set of networks: from gradients of the rows they put out to those of their parameters, which it
  /// adds to `gradients`, and of the rows they took in, [M, D], which it returns.
  ///
  /// - Parameters:
  ///   - output: dL/doutput of the tokens [T, D].
  ///   - order: the token of each row; nil for the identity.
  ///   - rowWeights: what each row's output was multiplied by [M]; nil for 1.
  ///   - forward: the tiles of the recorded pass.
  static func networkBackward(
    _ experts: PackedExperts, output: UnsafePointer<Float>, order: UnsafePointer<Int32>?,
    rowWeights: UnsafePointer<Float>?, offsets: UnsafePointer<Int64>, rowCount: Int,
    gradients: NetworkGradients, execution: Execution, forward: inout TileScratch,
    backward: inout BackwardTiles, scratch: inout Scratch
  ) throws(MoEError) -> UnsafeMutablePointer<Float> {
    let ex = execution.cValue
    let count = Int64(experts.expertCount)
    let (hidden, inner) = (Int64(experts.hiddenSize), Int64(experts.feedForwardSize))
    let upPanels = Int64(experts.upPanelCount)
    let (activation, alpha, limit) = experts.activation.cValue
    let dtype = experts.precision.cValue
    let downPanels = Int64(gradients.downPanelCount)
    func pairs(_ depth: Int64, _ panels: Int64) -> Int {
      moe_grouped_gemm_weights_scratch_bytes(ex.isa, dtype, Int64(rowCount), count, depth, panels)
    }
    let kernel = unsafe try scratch.reserve(
      bytes: max(
        moe_grouped_gemm_scratch_bytes(ex, count), pairs(inner, downPanels), pairs(hidden, upPanels)))

    let outputTiles = unsafe try backward.outputTiles.reserve(
      bytes: rowBytes(experts, rowCount, experts.hiddenSize, execution))
    unsafe moe_gather_rows(ex, dtype, output, hidden, count, offsets, order, rowWeights, outputTiles)
    let hiddenTiles = unsafe try forward.hiddenTiles.reserve(bytes: 0)
    let rowTiles = unsafe try forward.rowTiles.reserve(bytes: 0)
    let recorded = unsafe try forward.preactivationTiles.reserve(0, of: Float.self)
    let inward = unsafe try backward.preactivationTiles.reserve(
      bytes: rowBytes(experts, rowCount, experts.upPanelCount * MOE_PANEL, execution))
    let rows = unsafe try backward.rows.reserve(rowCount * experts.hiddenSize, of: Float.self)

    unsafe moe_grouped_gemm_down_backward(
      ex, dtype, outputTiles, count, offsets, hidden, inner, experts.down.base, activation, alpha, limit,
      recorded, inward, kernel)
    unsafe moe_grouped_gemm_weights(
      ex, dtype, hiddenTiles, inner, outputTiles, downPanels, count, offsets, gradients.down.floats, kernel)
    unsafe moe_grouped_gemm_weights(
      ex, dtype, rowTiles, hidden, inward, upPanels, count, offsets, gradients.up.floats, kernel)
    if experts.downBias != nil {
      unsafe moe_group_sums(ex, dtype, outputTiles, downPanels, count, offsets, gradients.downBias.floats)
    }
    if experts.gateBias != nil || experts.upBias != nil {
      unsafe moe_group_sums(ex, dtype, inward, upPanels, count, offsets, gradients.upBias.floats)
    }
    unsafe moe_grouped_gemm_backward(
      ex, dtype, inward, upPanels, count, offsets, hidden, experts.up.base, false, rows, kernel)
    return unsafe rows
  }

  /// Back through a router or a branch's gate: from dL/dweights [T, K] to the gradients of its parameters, which it
  /// adds to `gradients`, and of the tokens, which it adds to `inputGradient` [T, D].
  static func routerBackward(
    _ router: PackedRouter, input: UnsafePointer<Float>, tokenCount: Int, logits: UnsafePointer<Float>,
    expertIDs: UnsafePointer<Int32>, weightGradients: UnsafePointer<Float>, losses: RouterLossGradients,
    noise: RouterNoise? = nil, gradients: RouterGradients, inputGradient: UnsafeMutablePointer<Float>,
    execution: Execution,
    backward: inout BackwardScratch, scratch: inout Scratch
  ) throws(MoEError) {
    let ex = execution.cValue
    let (tokens, hidden) = (Int64(tokenCount), Int64(router.hiddenSize))
    let (experts, chosen) = (Int64(router.expertCount), Int64(router.expertsPerToken))
    var rule = router.policy.cRule(noise)
    let kernel = unsafe try scratch.reserve(
      bytes: max(moe_router_scratch_bytes(ex, hidden, experts), moe_grouped_gemm_scratch_bytes(ex, 1)))
    let logitGradients = unsafe try backward.logitGradients.reserve(
      tokenCount * router.expertCount, of: Float.self)
    let terms = unsafe try losses.probabilityGradients(in: &backward.probabilityGradients)
    unsafe terms.withUnsafeBufferPointer { terms in
      unsafe moe_router_backward(
        ex, &rule, logits, expertIDs, weightGradients, tokens, experts, chosen, terms.baseAddress,
        Int64(terms.count), losses.logSumExpFactor, logitGradients, kernel)
    }
    let offsets = unsafe try backward.offsets.reserve(2, of: Int64.self)
    unsafe offsets[0] = 0
    unsafe offsets[1] = tokens
    func tiles(_ width: Int64) -> Int {
      moe_rows_bytes(execution.instructionSet.cValue, MOE_F32, tokens, 1, width)
    }
    let logitTiles = unsafe try backward.logitTiles.reserve(bytes: tiles(experts))
      .assumingMemoryBound(to: Float.self)
    let tokenTiles = unsafe try backward.tokenTiles.reserve(bytes: tiles(hidden))
      .assumingMemoryBound(to: Float.self)
    unsafe moe_gather_rows(ex, MOE_F32, logitGradients, experts, 1, offsets, nil, nil, logitTiles)
    // With jitter the router read a copy of the input, whose gradient passes the same factors.
    let jittered = noise.flatMap { $0.inputJitter > 0 ? $0 : nil }
    let copy = unsafe try backward.jitteredTokens.reserve(
      jittered == nil ? 0 : tokenCount * router.hiddenSize, of: Float.self)
    if let jittered {
      unsafe jitter(
        input, tokenCount: tokenCount, hiddenSize: router.hiddenSize, noise: jittered, into: copy,
        adding: false, execution: execution)
    }
    unsafe moe_gather_rows(
      ex, MOE_F32, jittered == nil ? input : UnsafePointer(copy), hidden, 1, offsets, nil, nil, tokenTiles)
    unsafe moe_grouped_gemm_weights(
      ex, MOE_F32, tokenTiles, hidden, logitTiles, Int64(gradients.panelCount), 1, offsets,
      gradients.panels.floats, nil)
    unsafe moe_group_sums(
      ex, MOE_F32, logitTiles, Int64(gradients.panelCount), 1, offsets, gradients.bias.floats)
    let back = unsafe jittered == nil ? inputGradient : copy
    if jittered != nil { unsafe copy.update(repeating: 0, count: tokenCount * router.hiddenSize) }
    unsafe moe_grouped_gemm_backward(
      ex, MOE_F32, logitTiles, Int64(panels(router.expertCount)), 1, offsets, hidden, router.panels.floats,
      true, back, kernel)
    if let jittered {
      unsafe jitter(
        copy, tokenCount: tokenCount, hiddenSize: router.hiddenSize, noise: jittered, into: inputGradient,
        adding: true, execution: execution)
    }
  }

  /// dL/dweights [T, K] = `output`[t]·`rows`[choice].
  static func combineBackward(
    _ output: UnsafePointer<Float>, rows: UnsafePointer<Float>, choiceRow: UnsafePointer<Int32>,
    tokenCount: Int, expertsPerToken: Int, hiddenSize: Int, into gradients: UnsafeMutablePointer<Float>,
    execution: Execution
  ) {
    unsafe moe_combine_backward(
      execution.cValue, output, rows, choiceRow, Int64(tokenCount), Int64(expertsPerToken),
      Int64(hiddenSize), gradients)
  }
}
