internal import CKernels
package import MoECore

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

extension PackedExperts {
  /// The networks as the kernels take them; valid as long as the experts are.
  var cValue: moe_networks {
    let (function, alpha, limit) = activation.cValue
    return unsafe moe_networks(
      D: Int64(hiddenSize), F: Int64(feedForwardSize), format: precision.cValue, activation: function,
      alpha: alpha, limit: limit, up: up.base, down: down.base, gate_bias: gateBias?.floats,
      up_bias: upBias?.floats, down_bias: downBias?.floats)
  }
}

extension Kernels {
  /// A set of networks on rows of tokens: gathered, up with the activation, down; gives the rows [M, D].
  ///
  /// - Parameters:
  ///   - tokens: [T, D].
  ///   - order: the token of each row; nil for the identity.
  ///   - weights: what each row is multiplied by [M]; nil for 1.
  ///   - isRecorded: whether `tiles` are for a backward pass.
  ///   - needsRows: false where only the activations before the second product are wanted; the rows then have no
  ///     meaning.
  package static func networkForward(
    _ experts: PackedExperts, tokens: UnsafePointer<Float>, order: UnsafePointer<Int32>?,
    weights: UnsafePointer<Float>?, offsets: UnsafePointer<Int64>, rowCount: Int, isRecorded: Bool,
    needsRows: Bool, execution: Execution, tiles: inout TileScratch, scratch: inout Scratch
  ) throws(MoEError) -> UnsafePointer<Float> {
    unsafe try gatherRows(
      tokens, order: order, weights: weights, offsets: offsets, rowCount: rowCount, experts: experts,
      execution: execution, tiles: &tiles)
    unsafe try groupedGEMMUp(
      experts, offsets: offsets, rowCount: rowCount, isRecorded: isRecorded, execution: execution,
      tiles: &tiles, scratch: &scratch)
    guard needsRows else { return unsafe UnsafePointer(try tiles.rows.reserve(0, of: Float.self)) }
    return unsafe UnsafePointer(
      try groupedGEMMDown(
        experts, offsets: offsets, rowCount: rowCount, execution: execution, tiles: &tiles, scratch: &scratch)
    )
  }

  /// First product: `rowTiles` → `hiddenTiles`, with bias and activation; it can record what the backward pass
  /// starts from in `preactivationTiles`.
  static func groupedGEMMUp(
    _ experts: PackedExperts, offsets: UnsafePointer<Int64>, rowCount: Int, isRecorded: Bool,
    execution: Execution, tiles: inout TileScratch, scratch: inout Scratch
  ) throws(MoEError) {
    let rows = unsafe try tiles.rowTiles.reserve(bytes: 0)
    let hidden = unsafe try tiles.hiddenTiles.reserve(
      bytes: rowBytes(experts, rowCount, experts.feedForwardSize, execution))
    let kernel = unsafe try scratch.reserve(
      bytes: moe_grouped_gemm_scratch_bytes(execution.cValue))
    var recorded: UnsafeMutablePointer<Float>?
    if isRecorded {
      let bytes = moe_rows_bytes(
        execution.instructionSet.cValue, MOE_FLOAT32, Int64(rowCount), Int64(experts.expertCount),
        Int64(experts.upPanelCount) * Int64(MOE_PANEL))
      unsafe recorded = try tiles.preactivationTiles.reserve(bytes: bytes)
        .assumingMemoryBound(to: Float.self)
    }
    var networks = unsafe experts.cValue
    unsafe moe_grouped_gemm_up(
      execution.cValue, &networks, moe_groups(E: Int64(experts.expertCount), offsets: offsets), rows,
      recorded, hidden, kernel)
  }

  /// Second product: `hiddenTiles` → `rows` [M, D], with bias.
  static func groupedGEMMDown(
    _ experts: PackedExperts, offsets: UnsafePointer<Int64>, rowCount: Int, execution: Execution,
    tiles: inout TileScratch, scratch: inout Scratch
  ) throws(MoEError) -> UnsafeMutablePointer<Float> {
    let rows = unsafe try tiles.rows.reserve(rowCount * experts.hiddenSize, of: Float.self)
    let bytes = moe_grouped_gemm_scratch_bytes(execution.cValue)
    var networks = unsafe experts.cValue
    unsafe moe_grouped_gemm_down(
      execution.cValue, &networks, moe_groups(E: Int64(experts.expertCount), offsets: offsets),
      try tiles.hiddenTiles.reserve(bytes: 0), rows, try scratch.reserve(bytes: bytes))
    return unsafe rows
  }

  /// Bytes of `rowCount` rows over `width` values, as row tiles for these experts.
  static func rowBytes(_ experts: PackedExperts, _ rowCount: Int, _ width: Int, _ execution: Execution) -> Int
  {
    moe_rows_bytes(
      execution.instructionSet.cValue, experts.precision.cValue, Int64(rowCount), Int64(experts.expertCount),
      Int64(width))
  }
}
