internal import CKernels
internal import MoECore

extension ActivationFunction {
  /// The activation's C value, and alpha and limit of the clamped form.
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

extension PackedExperts {
  /// The networks in the kernels' C type; valid as long as the experts are.
  var cValue: moe_networks {
    let (function, alpha, limit) = activation.cValue
    return unsafe moe_networks(
      D: Int64(hiddenSize), F: Int64(feedForwardSize), format: precision.cValue, activation: function,
      alpha: alpha, limit: limit, up: up.base, down: down.base, gate_bias: gateBias?.floats,
      up_bias: upBias?.floats, down_bias: downBias?.floats)
  }
}

extension Kernels {
  /// Computes the first product of a set of networks, with bias and activation.
  ///
  /// - Parameter isRecorded: whether the values of gate and up before the activation are kept for a backward pass.
  static func groupedGEMMUp(
    _ experts: PackedExperts, _ input: RowTiles, isRecorded: Bool, execution: Execution,
    tiles: inout TileScratch, scratch: inout CallScratch
  ) throws(MoEError) -> (preactivation: RowTiles?, hidden: RowTiles) {
    let groups = input.groups
    let hidden = try reserveTiles(
      groups, width: experts.feedForwardSize, precision: experts.precision, execution, in: &tiles.hidden)
    let preactivation =
      isRecorded
      ? try reserveTiles(
        groups, width: experts.upPanelCount * MOE_PANEL, precision: .float32, execution,
        in: &tiles.preactivation) : nil
    let kernel = try scratch.kernel.reserve(bytes: moe_grouped_gemm_scratch_bytes(execution.cValue))
    var networks = unsafe experts.cValue
    unsafe moe_grouped_gemm_up(
      execution.cValue, &networks, groups.cValue, input.memory.base, preactivation?.memory.floats,
      hidden.memory.base, kernel.base)
    return (preactivation, hidden)
  }

  /// Computes the second product of a set of networks, with bias: rows [M, D].
  static func groupedGEMMDown(
    _ experts: PackedExperts, _ hidden: RowTiles, execution: Execution, into rows: inout Scratch,
    scratch: inout CallScratch
  ) throws(MoEError) -> MemoryView<Float> {
    let groups = hidden.groups
    let result = try rows.reserve(groups.rowCount * experts.hiddenSize, of: Float.self)
    let kernel = try scratch.kernel.reserve(bytes: moe_grouped_gemm_scratch_bytes(execution.cValue))
    var networks = unsafe experts.cValue
    unsafe moe_grouped_gemm_down(
      execution.cValue, &networks, groups.cValue, hidden.memory.base, result.base, kernel.base)
    return result
  }
}
