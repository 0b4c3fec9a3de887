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
  /// The first product of a set of networks, with bias and activation.
  ///
  /// - Parameter isRecorded: whether gate and up are kept from before the activation, where a backward pass starts.
  static func groupedGEMMUp(
    _ experts: PackedExperts, _ input: RowTiles, isRecorded: Bool, execution: Execution,
    tiles: inout TileScratch, scratch: inout CallScratch
  ) throws(MoEError) -> (preactivation: RowTiles?, hidden: RowTiles) {
    let groups = input.groups
    let (activation, alpha, limit) = experts.activation.cValue
    let hidden = try reserveTiles(
      groups, width: experts.feedForwardSize, precision: experts.precision, execution, in: &tiles.hidden)
    let kernel = try scratch.kernel.reserve(
      bytes: moe_grouped_gemm_scratch_bytes(execution.cValue, Int64(groups.groupCount)))
    guard isRecorded else {
      unsafe moe_grouped_gemm_up(
        execution.cValue, experts.precision.cValue, input.memory.base, Int64(groups.groupCount),
        groups.offsets.base, Int64(experts.hiddenSize), Int64(experts.feedForwardSize), experts.up.base,
        experts.gateBias?.floats, experts.upBias?.floats, activation, alpha, limit, hidden.memory.base,
        kernel.base)
      return (nil, hidden)
    }
    let preactivation = try reserveTiles(
      groups, width: experts.upPanelCount * MOE_PANEL, precision: .float32, execution,
      in: &tiles.preactivation)
    unsafe moe_grouped_gemm_up_recorded(
      execution.cValue, experts.precision.cValue, input.memory.base, Int64(groups.groupCount),
      groups.offsets.base, Int64(experts.hiddenSize), Int64(experts.feedForwardSize), experts.up.base,
      experts.gateBias?.floats, experts.upBias?.floats, activation, alpha, limit, preactivation.memory.floats,
      hidden.memory.base, kernel.base)
    return (preactivation, hidden)
  }

  /// The second product of a set of networks, with bias: rows [M, D].
  static func groupedGEMMDown(
    _ experts: PackedExperts, _ hidden: RowTiles, execution: Execution, into rows: inout Scratch,
    scratch: inout CallScratch
  ) throws(MoEError) -> MemoryView<Float> {
    let groups = hidden.groups
    let result = try rows.reserve(groups.rowCount * experts.hiddenSize, of: Float.self)
    let kernel = try scratch.kernel.reserve(
      bytes: moe_grouped_gemm_scratch_bytes(execution.cValue, Int64(groups.groupCount)))
    unsafe moe_grouped_gemm_down(
      execution.cValue, experts.precision.cValue, hidden.memory.base, Int64(groups.groupCount),
      groups.offsets.base, Int64(experts.feedForwardSize), Int64(experts.hiddenSize), experts.down.base,
      experts.downBias?.floats, result.base, kernel.base)
    return result
  }
}
