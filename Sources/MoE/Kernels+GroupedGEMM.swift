internal import CKernels
internal import MoECore

extension ActivationFunction {
  /// The C name, and alpha and limit of the clamped form.
  var cValue: (moe_activation, alpha: Float, limit: Float) {
    switch self {
    case .relu: (MOE_RELU, 0, 0)
    case .gelu: (MOE_GELU, 0, 0)
    case .geluTanh: (MOE_GELU_TANH, 0, 0)
    case .swiGLU: (MOE_SWIGLU, 0, 0)
    case .geGLU: (MOE_GEGLU, 0, 0)
    case .geGLUTanh: (MOE_GEGLU_TANH, 0, 0)
    case .clampedSwiGLU(let alpha, let limit): (MOE_CLAMPED_SWIGLU, alpha, limit)
    }
  }
}

extension Kernels {
  /// First product: the workspace's `rowTiles` → `hiddenTiles`, with bias and activation.
  static func groupedGEMMUp(
    _ experts: PackedExperts, offsets: UnsafePointer<Int64>, rowCount: Int, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) {
    let hiddenBytes = moe_rows_bytes(
      execution.instructionSet.cValue, experts.precision.cValue, Int64(rowCount), Int64(experts.expertCount),
      Int64(experts.feedForwardSize))
    let scratchBytes = moe_grouped_gemm_scratch_bytes(execution.cValue, Int64(experts.expertCount))
    let (activation, alpha, limit) = experts.activation.cValue
    unsafe moe_grouped_gemm_up(
      execution.cValue, experts.precision.cValue, try workspace.rowTiles.reserve(bytes: 0),
      Int64(experts.expertCount), offsets, Int64(experts.hiddenSize), Int64(experts.feedForwardSize),
      experts.up.base, experts.gateBias?.floats, experts.upBias?.floats, activation, alpha, limit,
      try workspace.hiddenTiles.reserve(bytes: hiddenBytes),
      try workspace.kernel.reserve(bytes: scratchBytes))
  }

  /// Second product: the workspace's `hiddenTiles` → `rows` [M, D], with bias.
  static func groupedGEMMDown(
    _ experts: PackedExperts, offsets: UnsafePointer<Int64>, into rows: UnsafeMutablePointer<Float>,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) {
    let scratchBytes = moe_grouped_gemm_scratch_bytes(execution.cValue, Int64(experts.expertCount))
    unsafe moe_grouped_gemm_down(
      execution.cValue, experts.precision.cValue, try workspace.hiddenTiles.reserve(bytes: 0),
      Int64(experts.expertCount), offsets, Int64(experts.feedForwardSize), Int64(experts.hiddenSize),
      experts.down.base, experts.downBias?.floats, rows, try workspace.kernel.reserve(bytes: scratchBytes))
  }
}
