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
    unsafe moe_combine(
      execution.cValue, rows, choiceRow, weights, Int64(tokenCount), Int64(expertsPerToken),
      Int64(hiddenSize), branch?.rows, branch?.gates, Int64(branch?.gateColumns ?? 0), output)
  }
}
