internal import CKernels
internal import MoECore

/// The values that combine adds up for each of T tokens.
struct Combination {
  /// `[M, D]`: the rows.
  let rows: MemoryView<Float>
  /// `[T, K]`: the row of each choice.
  let choiceRow: MemoryView<Int32>
  /// `[T, K]`: the factor of each choice's row; nil for 1.
  var weights: MemoryView<Float>?
  let tokenCount: Int
  let expertsPerToken: Int
  let hiddenSize: Int
}

extension Kernels {
  /// Adds up each token's rows in slot order, and the rows `branch` [T, D] of a dense branch, times its gates if any.
  static func combine(
    _ sum: Combination, branch: MemoryView<Float>?, gates: BranchGates?, into output: MemoryView<Float>,
    execution: Execution
  ) {
    unsafe moe_combine(
      execution.cValue, sum.rows.base, sum.choiceRow.base, sum.weights?.base, Int64(sum.tokenCount),
      Int64(sum.expertsPerToken), Int64(sum.hiddenSize), branch?.base, gates?.values.base,
      Int64(gates?.columns ?? 0), output.base)
  }

  /// dL/dweights [T, K]: the product of each token's `gradient` [T, D] with the row of each of its choices.
  static func combineBackward(
    _ sum: Combination, gradient: MemoryView<Float>, into weightGradients: MemoryView<Float>,
    execution: Execution
  ) {
    unsafe moe_combine_backward(
      execution.cValue, gradient.base, sum.rows.base, sum.choiceRow.base, Int64(sum.tokenCount),
      Int64(sum.expertsPerToken), Int64(sum.hiddenSize), weightGradients.base)
  }
}
