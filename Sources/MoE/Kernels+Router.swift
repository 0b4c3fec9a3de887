internal import CKernels
internal import MoECore

extension RoutingPolicy {
  /// Returns the kernels' rule of a pass over E experts. Random rules that hold at evaluation too use the seed 0 there.
  ///
  /// - Parameter noise: the random numbers of a training pass; nil at evaluation.
  func cRule(_ noise: RouterNoise?, expertCount: Int) -> moe_router_rule {
    var rule = moe_router_rule()
    rule.seed = noise?.seed ?? 0
    rule.first_token = noise?.cFirstToken ?? 0
    setScores(of: &rule)
    setChoice(of: &rule)
    if noise != nil { setTraining(of: &rule, expertCount: expertCount) }
    return rule
  }

  private func setScores(of rule: inout moe_router_rule) {
    rule.logit_scale = logitScale
    switch scoring {
    case .squareRootSoftplus: rule.scoring = MOE_SQRT_SOFTPLUS
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
    case .norm(let power):
      rule.normalization = MOE_NORMALIZE_NORM
      rule.normalization_term = power
    }
    rule.normalizes_kept = normalizationTime == .afterDropping
    rule.scale = scale
  }

  private func setChoice(of rule: inout moe_router_rule) {
    if let groups {
      rule.groups = Int32(groups.count)
      rule.groups_selected = Int32(groups.selected)
      rule.group_addends = Int32(groups.score.addends)
      rule.group_mask = groups.mask == .zero ? 0 : -.infinity
    }
    switch choice.second {
    case .best: rule.second = MOE_SECOND_BEST
    case .sampled: rule.second = MOE_SECOND_SAMPLED
    case .random(let threshold), .randomAfterDropping(let threshold):
      rule.second = MOE_SECOND_RANDOM
      rule.second_threshold = threshold
    case .above(let threshold):
      rule.second = MOE_SECOND_ABOVE
      rule.second_threshold = threshold
    }
  }

  private func setTraining(of rule: inout moe_router_rule, expertCount: Int) {
    if case .sparseMixer = scoring { rule.is_sampled = true }
    switch choice.first {
    case .best: break
    case .sampled: rule.first_temperature = 1
    case .sampledWithTemperature(let temperature): rule.first_temperature = temperature
    }
    switch noise.logits {
    case .none, .learned: break
    case .normal(let deviation):
      rule.noise = MOE_LOGITS_NORMAL
      rule.noise_size = deviation / Float(expertCount)
    case .uniform(let spread):
      rule.noise = MOE_LOGITS_UNIFORM
      rule.noise_size = spread
    }
  }
}

extension RouterNoise {
  fileprivate var cFirstToken: UInt64 { UInt64(bitPattern: Int64(firstToken)) }
}

/// The tokens or logits that a router chooses from, and the rule that it follows.
struct RouterInput {
  /// The source of the logits.
  enum Source {
    /// The tokens [T, D], to be multiplied by the router's weights.
    case tokens(MemoryView<Float>, PackedRouter)
    /// The logits [T, E].
    case logits(MemoryView<Float>)
  }

  let source: Source
  let tokenCount: Int
  let expertCount: Int
  let expertsPerToken: Int
  let policy: RoutingPolicy
  let selectionBias: Memory?
  let noise: RouterNoise?
  /// `[T, K]`: the experts, if something else chose them; −1 for none.
  var givenIDs: MemoryView<Int32>?

  /// Makes an input of tokens [T, D], which `router` routes by its own rule.
  init(_ tokens: MemoryView<Float>, _ router: PackedRouter, noise: RouterNoise?) {
    source = .tokens(tokens, router)
    tokenCount = tokens.count / router.hiddenSize
    expertCount = router.expertCount
    expertsPerToken = router.expertsPerToken
    policy = router.policy
    selectionBias = router.selectionBias
    self.noise = noise
  }

  /// Makes an input of recorded logits, whose experts were chosen elsewhere.
  init(
    _ logits: MemoryView<Float>, choosing ids: MemoryView<Int32>, expertsPerToken: Int,
    policy: RoutingPolicy, noise: RouterNoise?
  ) {
    source = .logits(logits)
    tokenCount = ids.count / expertsPerToken
    expertCount = tokenCount == 0 ? 1 : logits.count / tokenCount
    self.expertsPerToken = expertsPerToken
    self.policy = policy
    selectionBias = nil
    self.noise = noise
    givenIDs = ids
  }

  /// The logits [T, E].
  init(
    logits: Matrix, expertsPerToken: Int, policy: RoutingPolicy, selectionBias: Memory?, noise: RouterNoise?
  ) {
    source = .logits(MemoryView(logits))
    tokenCount = logits.rows
    expertCount = logits.columns
    self.expertsPerToken = expertsPerToken
    self.policy = policy
    self.selectionBias = selectionBias
    self.noise = noise
  }
}

extension RouterInput {
  /// Returns the input in the kernel's C type; valid as long as its memory is.
  fileprivate func cValue(mask: MemoryView<UInt8>?) -> moe_router_input {
    var input = unsafe moe_router_input()
    unsafe input.T = Int64(tokenCount)
    unsafe input.E = Int64(expertCount)
    unsafe input.K = Int64(expertsPerToken)
    unsafe input.selection_bias = UnsafePointer(selectionBias?.floats)
    unsafe input.mask = UnsafePointer(mask?.base)
    unsafe input.given_ids = UnsafePointer(givenIDs?.base)
    switch source {
    case .tokens(let tokens, let router):
      unsafe input.x = UnsafePointer(tokens.base)
      unsafe input.D = Int64(router.hiddenSize)
      unsafe input.panels = UnsafePointer(router.panels.floats)
      unsafe input.bias = UnsafePointer(router.bias?.floats)
    case .logits(let logits):
      unsafe input.logits = UnsafePointer(logits.base)
    }
    return unsafe input
  }
}

extension Kernels {
  /// Routes T tokens.
  ///
  /// - Parameters:
  ///   - mask: one value per token, false for padding.
  ///   - isRecorded: whether logits are kept for a backward pass.
  ///   - needsScores: whether the scores of all experts are written, to the scratch's scores.
  static func route(
    _ input: RouterInput, mask: [Bool]?, isRecorded: Bool, needsScores: Bool = false, execution: Execution,
    results: inout RouterScratch, scratch: inout CallScratch
  ) throws(MoEError) -> Routes {
    let experts = input.expertCount
    let choices = try reserveChoices(input, isRecorded: isRecorded, in: &results)
    let margins = try results.margins.reserve(input.tokenCount, of: Float.self)
    let logSumExp = try results.logSumExp.reserve(input.tokenCount, of: Float.self)
    let sums = try results.sums.reserve(3 * experts, of: Int64.self)
    var output = unsafe moe_router_output()
    unsafe output.margins = margins.base
    if needsScores {
      unsafe output.scores = try results.scores.reserve(input.tokenCount * experts, of: Float.self).base
    }
    unsafe output.logsumexp = logSumExp.base
    unsafe output.counts = sums.base
    unsafe output.first_counts = sums.base + experts
    unsafe output.probability_sums = sums.base + 2 * experts
    let bad = unsafe try run(
      input, mask: mask, choices, &output, execution: execution, scratch: &scratch)
    if bad >= 0 { throw .notFinite(what: "the router logit", token: bad) }
    return Routes(choices: choices, margins: margins, logSumExp: logSumExp, sums: sums)
  }

  /// Computes the gate of a dense branch: σ(x·w) as [T, 1], or softmax(x·W + b) as [T, 2].
  static func gate(
    _ input: RouterInput, isRecorded: Bool, execution: Execution, results: inout RouterScratch,
    scratch: inout CallScratch
  ) throws(MoEError) -> BranchGates {
    let choices = try reserveChoices(input, isRecorded: isRecorded, in: &results)
    let values = try results.scores.reserve(input.tokenCount * input.expertCount, of: Float.self)
    var output = unsafe moe_router_output()
    unsafe output.scores = values.base
    let bad = unsafe try run(
      input, mask: nil, choices, &output, execution: execution, scratch: &scratch)
    if bad >= 0 { throw .notFinite(what: "the dense branch's gate logit", token: bad) }
    return BranchGates(choices: choices, values: values)
  }

  /// Reserves memory for the choices of a router.
  private static func reserveChoices(
    _ input: RouterInput, isRecorded: Bool, in results: inout RouterScratch
  ) throws(MoEError) -> RouterChoices {
    let count = input.tokenCount * input.expertsPerToken
    return RouterChoices(
      tokenCount: input.tokenCount, expertCount: input.expertCount, expertsPerToken: input.expertsPerToken,
      expertIDs: try results.expertIDs.reserve(count, of: Int32.self),
      weights: try results.weights.reserve(count, of: Float.self),
      gates: input.policy.capacity?.priority.readsGates ?? false
        ? try results.gates.reserve(count, of: Float.self) : nil,
      logits: isRecorded
        ? try results.logits.reserve(input.tokenCount * input.expertCount, of: Float.self) : nil,
      noise: input.noise)
  }

  /// Writes the choices and the other values that `output` points to.
  ///
  /// - Returns: the first token that cannot be routed, or −1.
  private static func run(
    _ input: RouterInput, mask: [Bool]?, _ choices: RouterChoices, _ output: inout moe_router_output,
    execution: Execution, scratch: inout CallScratch
  ) throws(MoEError) -> Int {
    unsafe output.expert_ids = choices.expertIDs.base
    unsafe output.weights = choices.weights.base
    unsafe output.logits = choices.logits?.base
    unsafe output.gates = choices.gates?.base
    var rule = input.policy.cRule(input.noise, expertCount: input.expertCount)
    var maskBytes: MemoryView<UInt8>?
    if let mask {
      let bytes = try scratch.mask.reserve(input.tokenCount, of: UInt8.self)
      for (token, isRouted) in mask.enumerated() { bytes[token] = isRouted ? 1 : 0 }
      maskBytes = bytes
    }
    let kernel = try scratch.kernel.reserve(
      bytes: moe_router_scratch_bytes(execution.cValue, Int64(input.expertCount)))
    var cInput = unsafe input.cValue(mask: maskBytes)
    return unsafe Int(moe_router(execution.cValue, &rule, &cInput, &output, kernel.base))
  }

  /// Multiplies each column of tokens [T, D] by its noise. In training, the router reads this copy of its input.
  ///
  /// - Parameter adding: whether the products are added to `output`.
  static func jitter(
    _ tokens: MemoryView<Float>, hiddenSize: Int, _ rule: RoutingPolicy.Noise, noise: RouterNoise,
    into output: MemoryView<Float>, adding: Bool, execution: Execution
  ) {
    let rule = moe_input_noise(
      seed: noise.seed, first_token: noise.cFirstToken, jitter: rule.inputJitter, dropout: rule.inputDropout)
    unsafe moe_router_jitter(
      execution.cValue, tokens.base, Int64(tokens.count / hiddenSize), Int64(hiddenSize), rule, adding,
      output.base)
  }
}
