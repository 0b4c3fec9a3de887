internal import CKernels
internal import MoECore

extension RoutingPolicy {
  var cRule: moe_router_rule {
    var rule = moe_router_rule()
    switch scoring {
    case .softmax: rule.scoring = MOE_SOFTMAX
    case .sigmoid: rule.scoring = MOE_SIGMOID
    case .sigmoidOfSelected: rule.scoring = MOE_SIGMOID_OF_SELECTED
    case .softmaxOverSelected: rule.scoring = MOE_SOFTMAX_OVER_SELECTED
    case .sparseMixer(let jitter):
      rule.scoring = MOE_SPARSE_MIXER
      rule.jitter = jitter
    }
    switch normalization {
    case .none: rule.normalization = MOE_NORMALIZE_NONE
    case .sum(plus: let term):
      rule.normalization = MOE_NORMALIZE_SUM_PLUS
      rule.normalization_term = term
    case .sumAtLeast(let term):
      rule.normalization = MOE_NORMALIZE_SUM_AT_LEAST
      rule.normalization_term = term
    }
    rule.scale = scale
    if let groups {
      rule.groups = Int32(groups.count)
      rule.groups_selected = Int32(groups.selected)
      rule.group_score = groups.score == .maximum ? MOE_GROUP_MAXIMUM : MOE_GROUP_TOP_TWO_SUM
      rule.group_mask = groups.mask == .zero ? 0 : -.infinity
    }
    return rule
  }

  /// The rule of a training pass where there is noise.
  func cRule(_ noise: RouterNoise?) -> moe_router_rule {
    var rule = cRule
    guard let noise else { return rule }
    if case .sparseMixer = scoring { rule.is_sampled = true }
    rule.seed = noise.seed
    rule.first_token = noise.cFirstToken
    return rule
  }
}

extension RouterNoise {
  fileprivate var cFirstToken: UInt64 { UInt64(bitPattern: Int64(firstToken)) }
}

extension Kernels {
  /// What the router chooses from.
  @unsafe enum RouterInput {
    /// Tokens [T, D].
    case tokens(UnsafePointer<Float>, PackedRouter)
    /// Logits [T, E].
    case logits(UnsafePointer<Float>)

    fileprivate func fill(_ input: inout moe_router_input) {
      switch unsafe self {
      case .tokens(let tokens, let router):
        unsafe input.x = tokens
        unsafe input.D = Int64(router.hiddenSize)
        unsafe input.panels = unsafe UnsafePointer(router.panels.floats)
        unsafe input.bias = unsafe UnsafePointer(router.bias?.floats)
      case .logits(let logits):
        unsafe input.logits = logits
      }
    }
  }

  /// Routes T tokens into the workspace's `expertIDs` [T, K], `expertWeights` [T, K], `margins` [T],
  /// `logSumExp` [T] and `counts` (counts, first choices and probability sums, each [E]), with its noise if it has any.
  static func route(
    _ input: RouterInput, tokenCount: Int, expertCount: Int, expertsPerToken: Int, policy: RoutingPolicy,
    selectionBias: Memory?, mask: [Bool]?, isRecorded: Bool = false, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) {
    let choices = tokenCount * expertsPerToken
    let counts = unsafe try workspace.counts.reserve(3 * expertCount, of: Int64.self)
    var output = unsafe moe_router_output()
    unsafe output.expert_ids = try workspace.routing.expertIDs.reserve(choices, of: Int32.self)
    unsafe output.weights = try workspace.routing.expertWeights.reserve(choices, of: Float.self)
    unsafe output.margins = try workspace.margins.reserve(tokenCount, of: Float.self)
    unsafe output.logsumexp = try workspace.logSumExp.reserve(tokenCount, of: Float.self)
    if isRecorded {
      unsafe output.logits = try workspace.routing.logits.reserve(tokenCount * expertCount, of: Float.self)
    }
    unsafe output.counts = counts
    unsafe output.first_counts = counts + expertCount
    unsafe output.probability_sums = counts + 2 * expertCount
    var maskBytes: UnsafeMutablePointer<UInt8>?
    if let mask {
      let bytes = unsafe try workspace.mask.reserve(tokenCount, of: UInt8.self)
      for token in 0..<tokenCount { unsafe bytes[token] = mask[token] ? 1 : 0 }
      unsafe maskBytes = bytes
    }
    var input = unsafe input
    if let noise = workspace.routing.noise, noise.inputJitter > 0,
      case .tokens(let tokens, let router) = unsafe input
    {
      let count = tokenCount * router.hiddenSize
      let jittered = unsafe try workspace.jitteredTokens.reserve(count, of: Float.self)
      unsafe jitter(
        tokens, tokenCount: tokenCount, hiddenSize: router.hiddenSize, noise: noise, into: jittered,
        adding: false, execution: execution)
      unsafe input = .tokens(jittered, router)
    }
    var tokens = unsafe moe_router_input()
    (unsafe tokens.T, unsafe tokens.E, unsafe tokens.K) = (
      Int64(tokenCount), Int64(expertCount), Int64(expertsPerToken)
    )
    unsafe tokens.selection_bias = unsafe UnsafePointer(selectionBias?.floats)
    unsafe tokens.mask = unsafe UnsafePointer(maskBytes)
    unsafe input.fill(&tokens)
    let bad = unsafe try run(
      tokens, output: &output, rule: policy.cRule(workspace.routing.noise), execution: execution,
      scratch: &workspace.kernel)
    if bad >= 0 { throw .notFinite(what: "the router logit", token: bad) }
  }

  /// The gate of a dense branch: σ(x·w) as [T, 1], or softmax(x·W + b) as [T, 2].
  static func routeBranchGate(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, gate: PackedRouter, isRecorded: Bool = false,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> UnsafePointer<Float> {
    let columns = gate.expertCount
    var output = unsafe moe_router_output()
    unsafe output.expert_ids = try workspace.routing.branchIDs.reserve(tokenCount * columns, of: Int32.self)
    unsafe output.weights = try workspace.routing.branchWeights.reserve(tokenCount * columns, of: Float.self)
    if isRecorded {
      unsafe output.logits = try workspace.routing.branchLogits.reserve(tokenCount * columns, of: Float.self)
    }
    unsafe output.scores = try workspace.routing.branchGate.reserve(tokenCount * columns, of: Float.self)
    var input = unsafe moe_router_input()
    (unsafe input.T, unsafe input.E, unsafe input.K) = (Int64(tokenCount), Int64(columns), Int64(columns))
    unsafe RouterInput.tokens(tokens, gate).fill(&input)
    let bad = unsafe try run(
      input, output: &output, rule: gate.policy.cRule, execution: execution, scratch: &workspace.kernel)
    if bad >= 0 { throw .notFinite(what: "the dense branch's gate logit", token: bad) }
    return unsafe UnsafePointer(output.scores)
  }

  /// - Returns: the first token that could not be routed, or −1.
  private static func run(
    _ input: moe_router_input, output: inout moe_router_output, rule: moe_router_rule, execution: Execution,
    scratch: inout Scratch
  ) throws(MoEError) -> Int {
    var (rule, input) = unsafe (rule, input)
    let kernelScratch = unsafe try scratch.reserve(
      bytes: moe_router_scratch_bytes(execution.cValue, input.E))
    return unsafe Int(moe_router(execution.cValue, &rule, &input, &output, kernelScratch))
  }

  /// The router's copy of tokens [T, D], each column times its noise; or that added to `output`.
  static func jitter(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, hiddenSize: Int, noise: RouterNoise,
    into output: UnsafeMutablePointer<Float>, adding: Bool, execution: Execution
  ) {
    unsafe moe_router_jitter(
      execution.cValue, tokens, Int64(tokenCount), Int64(hiddenSize), noise.seed, noise.cFirstToken,
      noise.inputJitter, adding, output)
  }
}
