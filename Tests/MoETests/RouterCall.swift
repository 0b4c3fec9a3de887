import CKernels
import MoE
import MoECore
import TestSupport

/// All outputs of the router and its inputs, between fences.
struct RouterCall {
  /// The input that the router chooses from.
  enum Input {
    /// x [T, D] and the router's parameters.
    case tokens(Matrix, RouterWeights)
    /// [T, E], and a selection bias.
    case logits([Float], selectionBias: [Float]?)
  }

  /// The first token that could not be routed, or −1.
  let bad: Int
  let expertIDs: [Int32]
  let weights: [Float]
  let margins: [Float]
  let logSumExp: [Float]
  /// [T, E].
  let scores: [Float]
  let counts: [Int64]
  let firstCounts: [Int64]
  let probabilitySums: [Int64]
  /// Whether all stores were within the fences, and none is missing.
  let isClean: Bool

  init(
    _ input: Input, tokenCount: Int, expertCount: Int, expertsPerToken: Int, policy: RoutingPolicy,
    mask: [Bool]? = nil, execution: moe_execution
  ) {
    let (t, e, k) = (Int64(tokenCount), Int64(expertCount), Int64(expertsPerToken))
    let ids = Fenced<Int32>(count: tokenCount * expertsPerToken)
    let applied = Fenced<Float>(count: tokenCount * expertsPerToken)
    let (near, sums) = (Fenced<Float>(count: tokenCount), Fenced<Float>(count: tokenCount))
    let scores = Fenced<Float>(count: tokenCount * expertCount)
    let (counts, firsts) = (Fenced<Int64>(count: expertCount), Fenced<Int64>(count: expertCount))
    let shares = Fenced<Int64>(count: expertCount)
    var out = unsafe moe_router_output(
      expert_ids: ids.base, weights: applied.base, gates: nil, margins: near.base, logsumexp: sums.base,
      logits: nil,
      scores: scores.base, counts: counts.base, first_counts: firsts.base, probability_sums: shares.base)
    var rule = policy.rule
    let maskBytes = mask.map { Fenced($0.map { UInt8($0 ? 1 : 0) }) }
    var read: [Fenced<Float>?] = []
    var panels: Fenced<UInt8>?
    let scratch = Fenced.scratch(moe_router_scratch_bytes(execution, e))
    var tokens = unsafe moe_router_input()
    unsafe (tokens.T, tokens.E, tokens.K) = (t, e, k)
    switch input {
    case .tokens(let x, let router):
      let packedRouter = packed(router.weight, MOE_FLOAT32)
      panels = packedRouter
      read = [Fenced(x.elements), router.bias.map { Fenced($0) }, router.selectionBias.map { Fenced($0) }]
      unsafe (tokens.x, tokens.D) = unsafe (UnsafePointer(read[0]!.base), Int64(x.columns))
      unsafe tokens.panels = UnsafePointer(packedRouter.raw.assumingMemoryBound(to: Float.self))
      unsafe tokens.bias = unsafe UnsafePointer(read[1]?.base)
      unsafe tokens.selection_bias = unsafe UnsafePointer(read[2]?.base)
    case .logits(let logits, let selectionBias):
      read = [Fenced(logits), selectionBias.map { Fenced($0) }]
      unsafe tokens.logits = unsafe UnsafePointer(read[0]!.base)
      unsafe tokens.selection_bias = unsafe UnsafePointer(read[1]?.base)
    }
    unsafe tokens.mask = unsafe UnsafePointer(maskBytes?.base)
    bad = unsafe Int(moe_router(execution, &rule, &tokens, &out, scratch.raw))
    withExtendedLifetime(panels) {}
    (expertIDs, weights, margins, logSumExp) = (ids.elements, applied.elements, near.elements, sums.elements)
    (self.scores, self.counts) = (scores.elements, counts.elements)
    (firstCounts, probabilitySums) = (firsts.elements, shares.elements)
    let fences = [
      ids.fencesIntact, applied.fencesIntact, near.fencesIntact, sums.fencesIntact, scores.fencesIntact,
      counts.fencesIntact, firsts.fencesIntact, shares.fencesIntact, scratch.fencesIntact,
      maskBytes?.fencesIntact ?? true,
    ]
    let unwritten = [
      ids.unwrittenCount, applied.unwrittenCount, near.unwrittenCount, sums.unwrittenCount,
      scores.unwrittenCount, counts.unwrittenCount, firsts.unwrittenCount, shares.unwrittenCount,
    ]
    isClean =
      fences.allSatisfy { $0 } && (bad >= 0 || unwritten.allSatisfy { $0 == 0 })
      && read.allSatisfy { $0?.fencesIntact ?? true }
  }

  /// Returns whether all outputs have the same bits.
  func hasSameBits(as other: RouterCall) -> Bool {
    bad == other.bad && expertIDs == other.expertIDs && bits(weights) == bits(other.weights)
      && bits(margins) == bits(other.margins) && bits(logSumExp) == bits(other.logSumExp)
      && bits(scores) == bits(other.scores) && counts == other.counts && firstCounts == other.firstCounts
      && probabilitySums == other.probabilitySums
  }
}

extension RoutingPolicy {
  /// The policy in the kernel's C type.
  var rule: moe_router_rule {
    var rule = moe_router_rule()
    rule.logit_scale = logitScale
    switch scoring {
    case .squareRootSoftplus: rule.scoring = MOE_SQRT_SOFTPLUS
    case .softmax: rule.scoring = MOE_SOFTMAX
    case .sigmoid: rule.scoring = MOE_SIGMOID
    case .softmaxOverSelected: rule.scoring = MOE_SOFTMAX_OVER_SELECTED
    case .sigmoidOfSelected: rule.scoring = MOE_SIGMOID_OF_SELECTED
    case .sparseMixer(let jitter): (rule.scoring, rule.jitter) = (MOE_SPARSE_MIXER, jitter)
    }
    switch normalization {
    case .none: rule.normalization = MOE_NORMALIZE_NONE
    case .sum(plus: let term):
      (rule.normalization, rule.normalization_term) = (MOE_NORMALIZE_SUM_PLUS, term)
    case .sumAtLeast(let floor):
      (rule.normalization, rule.normalization_term) = (MOE_NORMALIZE_SUM_AT_LEAST, floor)
    case .norm(let power):
      (rule.normalization, rule.normalization_term) = (MOE_NORMALIZE_NORM, power)
    }
    rule.scale = scale
    if let groups {
      (rule.groups, rule.groups_selected) = (Int32(groups.count), Int32(groups.selected))
      rule.group_addends = Int32(groups.score.addends)
      rule.group_mask = groups.mask == .zero ? 0 : -.infinity
    }
    return rule
  }
}
