/// The rules that turn the logits of each token into its experts and their weights.
///
/// The steps, in order: compute the scores, add the selection bias, limit to groups, take the k best (score
/// descending, then expert index ascending), take their unbiased scores as weights, normalise, scale, and drop the
/// choices that exceed the capacity. The presets in `RoutingPolicy+Presets.swift` name the systems they reproduce.
public struct RoutingPolicy: Sendable, Equatable {
  /// The scores by which experts are compared and from which their weights are computed.
  public enum Scoring: Sendable, Equatable {
    /// The softmax over all experts, then the selection.
    case softmax
    /// The sigmoid of each logit, then the selection.
    case sigmoid
    /// The selection by logits, then the softmax over the selected experts.
    case softmaxOverSelected
    /// The selection by logits, then the sigmoid of each selected logit. Unlike `sigmoid`, it still tells apart large
    /// logits whose sigmoids round to the same number.
    case sigmoidOfSelected
    /// SparseMixer at evaluation (Liu et al. 2023; Phi-3.5-MoE): for one choice after another, the softmax over the
    /// experts whose logit is within 2·`jitter` of the best logit, relative to the larger of |logit| and the best
    /// logit.
    case sparseMixer(jitter: Float)
  }

  /// The divisor of the selected weights.
  public enum Normalization: Sendable, Equatable {
    /// No division.
    case none
    /// Their sum plus this number.
    case sum(plus: Float)
    /// Their sum, or this number if the sum is smaller.
    case sumAtLeast(Float)
  }

  /// Selection limited to the best groups of consecutive experts (DeepSeek-V2 §2.1.2, DeepSeek-V3 §2.1.2).
  public struct GroupLimit: Sendable, Equatable {
    /// The score by which groups are compared.
    public enum Score: Sendable, Equatable {
      /// The best expert's score.
      case maximum
      /// The sum of the two best scores.
      case topTwoSum
    }

    /// The score of an expert outside the selected groups.
    public enum Mask: Sendable, Equatable {
      /// Zero: such an expert still wins against a negative biased score inside the selected groups.
      case zero
      /// −∞: such an expert is never selected.
      case negativeInfinity
    }

    /// The number of groups, which must divide the number of experts.
    public var count: Int
    /// The number of groups from which each token may choose experts.
    public var selected: Int
    /// The score by which groups are compared.
    public var score: Score
    /// The score of an expert outside the selected groups.
    public var mask: Mask

    /// Makes a limit.
    public init(count: Int, selected: Int, score: Score, mask: Mask) {
      self.count = count
      self.selected = selected
      self.score = score
      self.mask = mask
    }
  }

  /// The place where an expert's weight is applied.
  public enum WeightPlacement: Sendable, Equatable {
    /// The weight multiplies the expert's output.
    case output
    /// The weight multiplies the expert's input (Llama 4).
    case input
  }

  /// Dropping of the choices that exceed an expert's capacity.
  public struct Capacity: Sendable, Equatable {
    /// The order in which choices claim an expert's rows.
    public enum Priority: Sendable, Equatable {
      /// All first choices in token order, then all second choices, and so on (GShard).
      case choiceThenToken
      /// All choices of the first token, then all choices of the second token, and so on.
      case tokenThenChoice
      /// By weight, the largest first; choices of equal weight in token order.
      case weight
    }

    /// The set of tokens that compete for one expert's rows.
    public enum Scope: Sendable, Equatable {
      /// All tokens of the batch.
      case batch
      /// The tokens of each sequence, whose length is `shape[-2]` of the activations.
      case sequence
    }

    /// The number of rows an expert accepts from one scope.
    public var rule: CapacityRule
    /// The order in which choices claim rows.
    public var priority: Priority
    /// The set of tokens that compete.
    public var scope: Scope

    /// Makes a rule for dropping.
    public init(rule: CapacityRule, priority: Priority = .choiceThenToken, scope: Scope = .batch) {
      self.rule = rule
      self.priority = priority
      self.scope = scope
    }
  }

  /// The choices that the load-balance loss counts for f.
  public enum LoadBalance: Sendable, Equatable {
    /// Only first choices: E·Σ f·P (Switch §2.2; GShard §2.2, which writes it as E²·mean).
    case firstChoice
    /// All k choices, divided by k, so that the minimum is 1 (DeepSpeed top-k, Megatron-Core).
    case allChoices
  }

  /// The scores by which experts are compared.
  public var scoring: Scoring
  /// The divisor of the selected weights.
  public var normalization: Normalization
  /// The factor of the normalised weights (`routed_scaling_factor`).
  public var scale: Float
  /// The limit to groups, if any.
  public var groups: GroupLimit?
  /// The place where weights are applied.
  public var weightPlacement: WeightPlacement
  /// The rule for dropping choices. By default it is nil, and every choice is computed.
  public var capacity: Capacity?
  /// The choices that the load-balance loss counts.
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

  /// Checks the policy for `expertCount` experts, of which each token chooses `expertsPerToken`.
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
