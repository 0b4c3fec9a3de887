internal import CKernels
public import MoECore

/// The weights of Soft MoE (Puigcerver et al. 2023, §2.1): slots are weighted means of tokens, and tokens weighted means of
/// the slots' results. No token is dropped.
public struct SoftAssignment: Sendable, Equatable {
  /// `[T, E·S]`: the weight of each token in each slot, the softmax of the logits over the real tokens.
  public let dispatch: Matrix
  /// `[T, E·S]`: the weight of each slot in each token's output, the softmax over all slots; 0 for padding.
  public let combine: Matrix

  /// Computes the weights of logits.
  ///
  /// - Parameters:
  ///   - logits: `[T, E·S]`, S slots of each expert side by side.
  ///   - mask: one value per token, false for padding.
  ///   - execution: nil for ``Execution/automatic()``.
  /// - Throws: `MoEError.notFinite` for a token with a NaN or +∞ logit, or all −∞.
  public init(logits: Matrix, mask: [Bool]? = nil, execution: Execution? = nil) throws(MoEError) {
    let execution = if let execution { execution } else { try Execution.automatic() }
    try check([mask?.count ?? logits.rows], [logits.rows], "the token mask")
    var workspace = Workspace()
    let input = RouterInput(
      logits: logits, expertsPerToken: 1, policy: RoutingPolicy(scoring: .softmax), selectionBias: nil,
      noise: nil)
    _ = try Kernels.route(
      input, mask: mask, isRecorded: false, needsScores: true, execution: execution,
      results: &workspace.routing.router, scratch: &workspace.call)
    let scores = try workspace.routing.router.scores.reserve(logits.count, of: Float.self)
    combine = try Matrix(rows: logits.rows, columns: logits.columns, elements: scores.elements)
    var bytes: MemoryView<UInt8>?
    if let mask {
      let view = try workspace.call.mask.reserve(mask.count, of: UInt8.self)
      for (token, isReal) in mask.enumerated() { view[token] = isReal ? 1 : 0 }
      bytes = view
    }
    var means = Matrix(rows: logits.rows, columns: logits.columns)
    unsafe moe_softmax_over_tokens(
      execution.cValue, MemoryView(logits).base, bytes?.base, Int64(logits.rows), Int64(logits.columns),
      Int64(max(logits.rows, 1)), MemoryView(writing: &means).base)
    dispatch = means
  }
}
