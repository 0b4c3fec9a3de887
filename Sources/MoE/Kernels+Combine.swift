internal import CKernels
internal import MoECore

extension Kernels {
  /// A dense branch to add: its rows [T, D] and the gate's columns, if it has one.
  @unsafe package struct Branch {
    package let rows: UnsafePointer<Float>
    package let gates: UnsafePointer<Float>?
    package let gateColumns: Int

    package init(rows: UnsafePointer<Float>, gates: UnsafePointer<Float>?, gateColumns: Int) {
      unsafe self.rows = unsafe rows
      unsafe self.gates = unsafe gates
      unsafe self.gateColumns = gateColumns
    }
  }

  /// Adds each token's rows of `rows` [M, D] in slot order, times `weights` [T, K] unless nil, and the branch.
  static func combine(
    _ rows: UnsafePointer<Float>, choiceRow: UnsafePointer<Int32>, weights: UnsafePointer<Float>?,
    tokenCount: Int, expertsPerToken: Int, hiddenSize: Int, branch: Branch?,
    into output: UnsafeMutablePointer<Float>, execution: Execution
  ) {
    var choices = unsafe moe_choices(
      T: Int64(tokenCount), K: Int64(expertsPerToken), D: Int64(hiddenSize), y: rows, choice_row: choiceRow,
      weights: weights)
    var dense = unsafe moe_branch(
      rows: branch?.rows, gates: branch?.gates, gate_columns: Int64(branch?.gateColumns ?? 0))
    unsafe moe_combine(execution.cValue, &choices, &dense, output)
  }
}
