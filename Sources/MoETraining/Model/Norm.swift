internal import CKernels
internal import MoE

/// RMSNorm with the residual sum before it: sum = x + addend, y = sum/√(mean sum² + ε)·gain.
struct Norm {
  let gain: Parameter
  let epsilon: Float

  /// The values of one norm that a pass keeps.
  @safe final class State {
    let sum: Rows
    let normed: Rows
    let inverse: Memory

    init(sequences: Int, length: Int, width: Int) throws(MoEError) {
      sum = try Rows(sequences: sequences, length: length, width: width)
      normed = try Rows(sequences: sequences, length: length, width: width)
      inverse = try Memory(floats: sequences * length)
    }
  }

  func forward(_ x: Rows, addend: Rows?, into state: State, execution: Execution) {
    let tokens = x.activations.tokens
    unsafe moe_rms_norm(
      execution.cValue, cValue(rows: tokens.rows, width: tokens.columns), x.floats, addend?.floats,
      state.sum.floats, state.normed.floats, state.inverse.floats)
  }

  private func cValue(rows: Int, width: Int) -> moe_norm {
    unsafe moe_norm(T: Int64(rows), D: Int64(width), gain: gain.values.floats, epsilon: epsilon)
  }

  /// Adds the gradient of the sum to `stream`, and the gradient of the gain to its sums.
  func backward(
    _ part: BackwardPart, _ gradient: Rows, state: State, into stream: Rows, execution: Execution
  ) {
    let tokens = gradient.activations.tokens
    unsafe moe_rms_norm_backward(
      execution.cValue, cValue(rows: tokens.rows, width: tokens.columns), gradient.floats, state.sum.floats,
      state.inverse.floats, part == .parameters ? nil : stream.floats,
      part == .input ? nil : gain.gradient.floats)
  }
}
