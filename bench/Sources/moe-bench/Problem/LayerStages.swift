import CKernels
import MoE

/// A layer's forward pass as a sequence of C kernels, so that each kernel can be timed alone: route → permute → gather
/// → up → down → combine.
final class LayerStages {
  let weights: KernelWeights
  let tokenCount: Int
  private let execution: moe_execution
  private let inputs: [Activations]
  private var turn = 0

  private let expertIDs: Buffer<Int32>
  private let expertWeights: Buffer<Float>
  private let margins: Buffer<Float>
  private let logSumExp: Buffer<Float>
  private let counts: Buffer<Int64>
  /// First row of each expert, [E+1].
  let offsets: Buffer<Int64>
  /// The token of each row, [T·K].
  let rowToken: Buffer<Int32>
  private let rowWeight: Buffer<Float>
  private let choiceRow: Buffer<Int32>
  private let slots: Buffer<Int32>
  private let dropped: Buffer<Int64>
  private let rowTiles: Buffer<UInt8>
  private let hiddenTiles: Buffer<UInt8>
  /// The output of the second product, [T·K, D].
  let rows: Buffer<Float>
  private let output: Buffer<Float>
  private let scratch: Buffer<UInt8>

  private var shape: Shape { weights.shape }
  private var hidden: Int64 { Int64(shape.hiddenSize) }
  private var feedForward: Int64 { Int64(shape.feedForwardSize) }
  private var experts: Int64 { Int64(shape.expertCount) }
  private var tokens: Int64 { Int64(tokenCount) }
  private var choicesPerToken: Int64 { Int64(shape.expertsPerToken) }
  private var type: moe_format { weights.precision.kernelType }

  init(_ weights: KernelWeights, inputs: [Activations], execution: moe_execution) throws {
    self.weights = weights
    self.inputs = inputs
    self.execution = execution
    tokenCount = inputs[0].tokenCount
    let shape = weights.shape
    let choices = tokenCount * shape.expertsPerToken
    expertIDs = try Buffer(choices)
    expertWeights = try Buffer(choices)
    margins = try Buffer(tokenCount)
    logSumExp = try Buffer(tokenCount)
    counts = try Buffer(3 * shape.expertCount)
    offsets = try Buffer(shape.expertCount + 1)
    rowToken = try Buffer(choices)
    rowWeight = try Buffer(choices)
    choiceRow = try Buffer(choices)
    slots = try Buffer(choices)
    dropped = try Buffer(shape.expertCount)
    func tiles(_ columns: Int) -> Int {
      moe_rows_bytes(
        execution.isa, weights.precision.kernelType, Int64(choices), Int64(shape.expertCount), Int64(columns))
    }
    rowTiles = try Buffer(tiles(shape.hiddenSize))
    hiddenTiles = try Buffer(tiles(shape.feedForwardSize))
    rows = try Buffer(choices * shape.hiddenSize)
    output = try Buffer(tokenCount * shape.hiddenSize)
    let experts = Int64(shape.expertCount)
    let scratchSizes = [
      moe_router_scratch_bytes(execution, experts),
      moe_permute_scratch_bytes(
        Int64(tokenCount), Int64(shape.expertsPerToken), experts, Int64(tokenCount)),
      moe_grouped_gemm_scratch_bytes(execution),
    ]
    scratch = try Buffer(scratchSizes.max()!)
  }

  private var groups: moe_groups { moe_groups(E: experts, offsets: offsets.base) }

  private var networks: moe_networks {
    var networks = moe_networks()
    (networks.D, networks.F, networks.format) = (hidden, feedForward, type)
    networks.activation = shape.isGated ? MOE_SWIGLU : MOE_RELU
    networks.up = UnsafeRawPointer(weights.up.base)
    networks.down = UnsafeRawPointer(weights.down.base)
    return networks
  }

  /// The current input.
  var input: Activations { inputs[turn] }

  /// Moves to the next input.
  func advance() { turn = (turn + 1) % inputs.count }

  /// Computes all stages before the first product.
  func dispatch() {
    route()
    permute()
    gather()
  }

  func route() {
    var rule = moe_router_rule()
    rule.logit_scale = 1
    rule.scoring = MOE_SOFTMAX
    rule.normalization = MOE_NORMALIZE_SUM_PLUS
    rule.scale = 1
    var written = moe_router_output()
    written.expert_ids = expertIDs.base
    written.weights = expertWeights.base
    written.margins = margins.base
    written.logsumexp = logSumExp.base
    written.counts = counts.base
    written.first_counts = counts.base + shape.expertCount
    written.probability_sums = counts.base + 2 * shape.expertCount
    input.tokens.withUnsafeBufferPointer { x in
      var routed = moe_router_input()
      (routed.T, routed.E, routed.K) = (tokens, experts, choicesPerToken)
      (routed.x, routed.D, routed.panels) = (x.baseAddress, hidden, UnsafePointer(weights.router.floats))
      _ = moe_router(execution, &rule, &routed, &written, scratch.base)
    }
  }

  func permute() {
    var written = moe_permutation()
    written.offsets = offsets.base
    written.row_token = rowToken.base
    written.row_weight = rowWeight.base
    written.choice_row = choiceRow.base
    written.slots = slots.base
    written.dropped = dropped.base
    _ = moe_permute(
      execution, expertIDs.base, expertWeights.base, tokens, choicesPerToken, experts,
      moe_capacity_rule(capacity: -1, priority: MOE_TOKEN_THEN_CHOICE, scope: tokens, keys: nil), &written,
      scratch.base)
  }

  func gather() {
    input.tokens.withUnsafeBufferPointer { x in
      moe_gather_rows(
        execution, type, groups, x.baseAddress, hidden, rowToken.base, nil, rowTiles.base)
    }
  }

  func up() {
    var networks = networks
    moe_grouped_gemm_up(execution, &networks, groups, rowTiles.base, nil, hiddenTiles.base, scratch.base)
  }

  func down() {
    var networks = networks
    moe_grouped_gemm_down(execution, &networks, groups, hiddenTiles.base, rows.base, scratch.base)
  }

  func combine() {
    var choices = moe_choices(
      T: tokens, K: choicesPerToken, D: hidden, y: rows.base, choice_row: choiceRow.base,
      weights: expertWeights.base)
    moe_combine(execution, &choices, nil, output.base)
  }

  /// The number of experts that have rows.
  var expertsUsed: Int { (0..<shape.expertCount).count { offsets[$0 + 1] > offsets[$0] } }

  /// Returns the mean of ``expertsUsed`` over all inputs.
  func meanExpertsUsed() -> Double {
    var used: [Double] = []
    for _ in inputs {
      advance()
      dispatch()
      used.append(Double(expertsUsed))
    }
    return used.mean
  }

  /// Returns the expert of row `row`.
  func expert(ofRow row: Int) -> Int { (0..<shape.expertCount).first { offsets[$0 + 1] > row }! }
}

extension Buffer<UInt8> {
  /// The bytes as floats.
  var floats: UnsafeMutablePointer<Float> {
    UnsafeMutableRawPointer(base).assumingMemoryBound(to: Float.self)
  }
}
