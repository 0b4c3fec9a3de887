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

  /// The combination in the kernels' C type; valid as long as its memory is.
  fileprivate var cValue: moe_choices {
    unsafe moe_choices(
      T: Int64(tokenCount), K: Int64(expertsPerToken), D: Int64(hiddenSize), y: rows.base,
      choice_row: choiceRow.base, weights: weights?.base)
  }
}

extension Kernels {
  /// Adds up each token's rows in slot order, and the rows `branch` [T, D] of a dense branch times its gates, if any.
  static func combine(
    _ sum: Combination, branch: MemoryView<Float>?, gates: BranchGates?, into output: MemoryView<Float>,
    execution: Execution
  ) {
    var choices = unsafe sum.cValue
    var dense = unsafe moe_branch(
      rows: branch?.base, gates: gates?.values.base, gate_columns: Int64(gates?.columns ?? 0))
    unsafe moe_combine(execution.cValue, &choices, &dense, output.base)
  }

  /// Computes dL/dweights [T, K]: the dot product of each token's `gradient` [T, D] with the row of each of its
  /// choices.
  static func combineBackward(
    _ sum: Combination, gradient: MemoryView<Float>, into weightGradients: MemoryView<Float>,
    execution: Execution
  ) {
    var choices = unsafe sum.cValue
    unsafe moe_combine_backward(execution.cValue, &choices, gradient.base, weightGradients.base)
  }
}
