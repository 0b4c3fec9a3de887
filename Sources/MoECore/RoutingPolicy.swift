/// How a token's logits become its experts and their weights.
///
/// The steps, in order: score, add the selection bias, limit to groups, take the k best (score descending,
/// then expert index ascending), weigh by the unbiased scores, normalise, scale, and drop what exceeds the
/// capacity. The presets in `RoutingPolicy+Presets.swift` name the systems they reproduce.
public struct RoutingPolicy: Sendable, Equatable {
  /// What the experts are compared by, and what their weights are made of.
  public enum Scoring: Sendable, Equatable {
    /// Softmax over all experts, then selection.
    case softmax
    /// Sigmoid of each logit, then selection.
    case sigmoid
    /// Selection on the logits, then softmax over the selected.
    case softmaxOverSelected
    /// Selection on the logits, then the sigmoid of each selected: unlike `sigmoid`, logits so large that
    /// their sigmoids round to the same number still differ.
    case sigmoidOfSelected
    /// SparseMixer at evaluation (Liu et al. 2023; Phi-3.5-MoE): choice by choice, softmax over the experts
    /// whose logit is within 2·`jitter` of the best, relative to the larger of |logit| and the best.
    case sparseMixer(jitter: Float)
  }

  /// What the selected weights are divided by.
  public enum Normalization: Sendable, Equatable {
    /// Nothing.
    case none
    /// Their sum plus this.
    case sum(plus: Float)
    /// Their sum, or this where the sum is smaller.
    case sumAtLeast(Float)
  }

  /// Selection limited to the best groups of consecutive experts (DeepSeek-V2 §2.1.2, DeepSeek-V3 §2.1.2).
  public struct GroupLimit: Sendable, Equatable {
    /// What the groups are compared by.
    public enum Score: Sendable, Equatable {
      /// The best expert's score.
      case maximum
      /// The sum of the two best scores.
      case topTwoSum
    }

    /// What an expert outside the selected groups scores.
    public enum Mask: Sendable, Equatable {
      /// Zero, which a negative biased score inside the selected groups loses to.
      case zero
      /// −∞, so that it is never selected.
      case negativeInfinity
    }

    /// The number of groups; divides the number of experts.
    public var count: Int
    /// How many groups a token may use.
    public var selected: Int
    /// What the groups are compared by.
    public var score: Score
    /// What an expert outside the selected groups scores.
    public var mask: Mask

    /// Makes a limit.
    public init(count: Int, selected: Int, score: Score, mask: Mask) {
      self.count = count
      self.selected = selected
      self.score = score
      self.mask = mask
    }
  }

  /// Where an expert's weight is applied.
  public enum WeightPlacement: Sendable, Equatable {
    /// To the expert's output.
    case output
    /// To the expert's input (Llama 4).
    case input
  }

  /// Dropping of the choices that exceed an expert's capacity.
  public struct Capacity: Sendable, Equatable {
    /// The order in which choices claim an expert's rows.
    public enum Priority: Sendable, Equatable {
      /// All first choices in token order, then all second choices, and so on (GShard).
      case choiceThenToken
      /// Token by token, all its choices at once.
      case tokenThenChoice
      /// The larger weight first, then token order.
      case weight
    }

    /// Which tokens compete for one expert's rows.
    public enum Scope: Sendable, Equatable {
      /// All tokens of the batch.
      case batch
      /// The tokens of each sequence, `shape[-2]` of the activations.
      case sequence
    }

    /// The number of rows an expert accepts from one scope.
    public var rule: CapacityRule
    /// The order in which choices claim rows.
    public var priority: Priority
    /// Which tokens compete.
    public var scope: Scope

    /// Makes a rule for dropping.
    public init(rule: CapacityRule, priority: Priority = .choiceThenToken, scope: Scope = .batch) {
      self.rule = rule
      self.priority = priority
      self.scope = scope
    }
  }

  /// Which assignments the load-balance loss counts as f.
  public enum LoadBalance: Sendable, Equatable {
    /// The first choice only: E·Σ f·P (Switch §2.2; GShard §2.2, which writes it E²·mean).
    case firstChoice
    /// All k choices, divided by k, so that the minimum is 1 (DeepSpeed top-k, Megatron-Core).
    case allChoices
  }

  /// What the experts are compared by.
  public var scoring: Scoring
  /// What the selected weights are divided by.
  public var normalization: Normalization
  /// What the normalised weights are multiplied by (`routed_scaling_factor`).
  public var scale: Float
  /// The limit to groups, if any.
  public var groups: GroupLimit?
  /// Where weights are applied.
  public var weightPlacement: WeightPlacement
  /// Dropping; without it, which is the default, every choice is computed.
  public var capacity: Capacity?
  /// Which assignments the load-balance loss counts.
  public var loadBalance: LoadBalance

  /// Makes a policy.
  public init(
    scoring: Scoring, normalization: Normalization = .none, scale: Float = 1, groups: GroupLimit? = nil,
    weightPlacement: WeightPlacement = .output, capacity: Capacity? = nil,
    loadBalance: LoadBalance = .allChoices
  ) {
    self.scoring = scoring
    self.normalization = normalization
    self.scale = scale
    self.groups = groups
    self.weightPlacement = weightPlacement
    self.capacity = capacity
    self.loadBalance = loadBalance
  }

  /// Checks the policy for E experts of which k are chosen.
  ///
  /// - Throws: ``MoEError/invalidConfiguration(_:)`` naming the value that cannot be honoured.
  public func validate(expertCount: Int, expertsPerToken: Int) throws(MoEError) {
    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws(MoEError) {
      if !condition { throw .invalidConfiguration(message()) }
    }
    try require(
      (1...1 << 24).contains(expertCount), "the number of experts is \(expertCount), expected 1 to \(1 << 24)"
    )
    try require(
      expertsPerToken > 0 && expertsPerToken <= expertCount,
      "top-k is \(expertsPerToken), expected 1 to the number of experts, \(expertCount)")
    try require(scale.isFinite, "the routed scaling factor is \(scale), expected a finite number")
    switch normalization {
    case .none: break
    case .sum(plus: let plus):
      try require(plus >= 0, "the term added to the sum of weights is \(plus), expected at least 0")
    case .sumAtLeast(let floor):
      try require(floor >= 0, "the least sum of weights is \(floor), expected at least 0")
    }
    if case .sparseMixer(let jitter) = scoring {
      try require(jitter >= 0 && jitter.isFinite, "the router jitter is \(jitter), expected at least 0")
    }
    if let groups {
      try require(
        groups.count > 0 && expertCount % groups.count == 0,
        "\(expertCount) experts cannot be divided into \(groups.count) equal groups")
      try require(
        groups.selected > 0 && groups.selected <= groups.count,
        "a token may use \(groups.selected) groups, expected 1 to \(groups.count)")
      try require(
        groups.score == .maximum || expertCount / groups.count >= 2,
        "groups of one expert have no two best scores to add")
      try require(
        groups.selected * (expertCount / groups.count) >= expertsPerToken,
        "the groups a token may use hold \(groups.selected * (expertCount / groups.count)) experts, fewer than "
          + "top-k \(expertsPerToken)"
      )
    }
    if let complaint = capacity?.rule.complaint { throw .invalidConfiguration(complaint) }
  }
}
