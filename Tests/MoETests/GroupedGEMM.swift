import CKernels
import MoE
import MoECore
import MoEReference
import TestSupport

/// Experts packed by `moe_pack_panels`, and both grouped products on them with fences around all memory.
struct GroupedGEMM {
  let instructionSet: InstructionSet
  let type: moe_format
  let activation: ActivationFunction
  let hiddenSize: Int
  let feedForwardSize: Int
  private let expertCount: Int
  private let upPanels: Fenced<UInt8>
  private let downPanels: Fenced<UInt8>
  private let gateBias: Fenced<Float>?
  private let upBias: Fenced<Float>?
  private let downBias: Fenced<Float>?

  init(
    _ instructionSet: InstructionSet, _ type: moe_format, experts: [FeedForwardWeights],
    activation: ActivationFunction
  ) {
    (self.instructionSet, self.type, self.activation) = (instructionSet, type, activation)
    (hiddenSize, feedForwardSize) = (experts[0].up.columns, experts[0].up.rows)
    expertCount = experts.count
    // F is padded to a multiple of 32 features, two panels, because the second product reduces over F.
    let features = (feedForwardSize + 31) / 32 * 32
    let stride = activation.isGated ? 2 : 1
    let upBytes = moe_panels_bytes(type, Int64(features / 16 * stride), Int64(hiddenSize))
    let columns = (hiddenSize + 15) / 16 * 16
    let downBytes = moe_panels_bytes(type, Int64(columns / 16), Int64(feedForwardSize))
    upPanels = Fenced(Array(repeating: 0, count: experts.count * upBytes))
    downPanels = Fenced(count: experts.count * downBytes)
    func table(_ biases: [[Float]?], _ width: Int) -> Fenced<Float>? {
      guard biases[0] != nil else { return nil }
      return Fenced(biases.flatMap { $0! + Array(repeating: 0, count: width - $0!.count) })
    }
    gateBias = table(experts.map(\.gateBias), features)
    upBias = table(experts.map(\.upBias), features)
    downBias = table(experts.map(\.downBias), columns)
    let ex = instructionSet.threads(1)
    for (index, expert) in experts.enumerated() {
      for (part, matrix) in [expert.gate, expert.up].compactMap({ $0 }).enumerated() {
        _ = unsafe matrix.withUnsafeBufferPointer {
          unsafe moe_pack_panels(
            ex, type, $0.baseAddress, Int64(matrix.rows), Int64(matrix.columns),
            upPanels.raw + index * upBytes + part * moe_panels_bytes(type, 1, Int64(hiddenSize)),
            Int64(stride))
        }
      }
      _ = unsafe expert.down.withUnsafeBufferPointer {
        unsafe moe_pack_panels(
          ex, type, $0.baseAddress, Int64(hiddenSize), Int64(feedForwardSize),
          downPanels.raw + index * downBytes, 1)
      }
    }
  }

  /// The networks in the kernels' C type.
  private var cValue: moe_networks {
    let (name, alpha, limit) = activation.name
    return unsafe moe_networks(
      D: Int64(hiddenSize), F: Int64(feedForwardSize), format: type, activation: name, alpha: alpha,
      limit: limit, up: upPanels.raw, down: downPanels.raw, gate_bias: gateBias?.base, up_bias: upBias?.base,
      down_bias: downBias?.base)
  }

  /// First product: rows `x` [M, D] in groups → h [M, F] as row tiles.
  func up(_ x: Matrix, groups: Groups, threads: Int32 = 2) -> RowTiles {
    let rows = RowTiles(instructionSet, type, groups: groups, depth: hiddenSize)
    rows.gather(FencedBuffer(x))
    let hidden = RowTiles(instructionSet, type, groups: groups, depth: feedForwardSize)
    let ex = instructionSet.threads(threads)
    let offsets = Fenced(groups.wide)
    let scratch = Fenced.scratch(moe_grouped_gemm_scratch_bytes(ex))
    var networks = unsafe cValue
    unsafe moe_grouped_gemm_up(
      ex, &networks, moe_groups(E: Int64(expertCount), offsets: offsets.base), rows.memory.raw, nil,
      hidden.memory.raw, scratch.raw)
    precondition(
      rows.memory.fencesIntact && upPanels.fencesIntact && offsets.fencesIntact && scratch.fencesIntact,
      "the first product wrote outside its buffers")
    return hidden
  }

  /// Second product: h [M, F] in groups → y [M, D].
  func down(_ hidden: Matrix, groups: Groups, threads: Int32 = 2) -> FencedBuffer {
    let rows = RowTiles(instructionSet, type, groups: groups, depth: feedForwardSize)
    rows.gather(FencedBuffer(hidden))
    let y = FencedBuffer(rows: groups.rowCount, columns: hiddenSize, misalignment: 5)
    let ex = instructionSet.threads(threads)
    let offsets = Fenced(groups.wide)
    let scratch = Fenced.scratch(moe_grouped_gemm_scratch_bytes(ex))
    var networks = unsafe cValue
    unsafe moe_grouped_gemm_down(
      ex, &networks, moe_groups(E: Int64(expertCount), offsets: offsets.base), rows.memory.raw, y.base,
      scratch.raw)
    precondition(
      rows.memory.fencesIntact && downPanels.fencesIntact && offsets.fencesIntact && scratch.fencesIntact,
      "the second product wrote outside its buffers")
    return y
  }
}

extension ActivationFunction {
  /// The activation's C value, alpha and limit.
  var name: (moe_activation, Float, Float) {
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
