/// A published routing rule by its name: the policy of a system with the options that the system has.
///
/// `RoutingPreset.named("switch")` finds one; ``all`` lists them. The names of checkpoint families are their
/// `model_type`.
public struct RoutingPreset: Sendable {
  /// An option that a preset has.
  public enum Option: String, Sendable, CaseIterable {
    /// Another number of experts per token.
    case topK
    /// A capacity factor.
    case capacityFactor
    /// A least capacity.
    case minimumCapacity
    /// A capacity that does not depend on the batch.
    case capacity
    /// The choices that are dropped: those of the lowest weight, or the latest.
    case dropOrder
    /// No dropping.
    case noDrop
    /// Limit to groups of experts.
    case groups
    /// Groups of tokens that compete for rows.
    case groupSize
    /// A bias for selection only.
    case selectionBias
    /// Random Token Selection, which can be left out.
    case randomTokenSelection
    /// A sampled second expert, which can be left out.
    case secondSampling
    /// The rule of the second expert.
    case secondPolicy
    /// The factor of the weights.
    case scale
    /// A mask of real tokens.
    case mask
    /// The ids of the tokens.
    case tokenIDs
  }

  /// The choices of a full expert that are dropped.
  public enum DropOrder: Sendable, Equatable {
    /// Those of the lowest weight.
    case lowestWeight
    /// The latest.
    case latest
  }

  /// The values of options; nil for the system's own.
  public struct Settings: Sendable {
    /// E, the number of experts.
    public var expertCount: Int
    /// K, the number of experts per token; nil for the preset's.
    public var expertsPerToken: Int?
    /// The capacity factor.
    public var capacityFactor: Double?
    /// The capacity factor as the fraction it was written as, for a rule that rounds once.
    public var fraction: (numerator: Int, denominator: Int)?
    /// The least capacity.
    public var minimumCapacity: Int?
    /// The capacity as a plain number.
    public var capacity: Int?
    /// Whether nothing is dropped.
    public var dropsNothing = false
    /// The choices of a full expert that are dropped.
    public var dropOrder: RoutingPreset.DropOrder?
    /// The number of groups of experts, and of those that a token may use.
    public var groups: (count: Int, selected: Int)?
    /// The number of tokens that compete for rows.
    public var groupSize: Int?
    /// Whether tokens are dropped in random order (DeepSpeed's `use_rts`).
    public var hasRandomTokenSelection = true
    /// Whether the second expert is sampled (DeepSpeed's `top2_2nd_expert_sampling`).
    public var hasSecondSampling = true
    /// The rule of the second expert.
    public var second: RoutingPolicy.Choice.Second?
    /// The factor of the weights.
    public var scale: Float?
    /// The power of the norm that divides the weights (`moe_normalize_expert_weights` of MegaBlocks).
    public var normPower: Float?
    /// The noise on logits in training (`gate_noise` of Tutel, `noise_std` of V-MoE).
    public var logitNoise: Float?
    /// Whether weights are normalised, where the system lets its user choose.
    public var isNormalized: Bool?
    /// The rule of the first expert (DeepSpeed's `noisy_gate_policy` “RSample”; `sample` of mesh-tensorflow).
    public var first: RoutingPolicy.Choice.First?

    /// Makes settings of a system's own values for E experts.
    public init(expertCount: Int) { self.expertCount = expertCount }
  }

  /// The name.
  public let name: String
  /// One line about the rule.
  public let summary: String
  /// The paper's section, or the file and function of the system.
  public let source: String
  /// K of the system, or of its published model.
  public let expertsPerToken: Int
  /// The options that the system has.
  public let options: Set<Option>
  /// Whether a mask changes losses only: padding is routed, takes rows and has weights (Megatron-Core).
  public var masksLossesOnly: Bool { name.hasPrefix("megatron") }
  private let make: @Sendable (Settings) -> RoutingPolicy

  init(
    _ name: String, _ summary: String, source: String, k: Int, _ options: Set<Option>,
    _ make: @escaping @Sendable (Settings) -> RoutingPolicy
  ) {
    self.name = name
    self.summary = summary
    self.source = source
    expertsPerToken = k
    self.options = options
    self.make = make
  }

  /// Every preset: the systems, then the checkpoint families.
  public static let all: [RoutingPreset] = systems + assignments + families

  /// Returns the preset of a name; nil if there is none.
  public static func named(_ name: String) -> RoutingPreset? { all.first { $0.name == name } }

  /// Returns the number of experts per token that settings lead to: the preset's, at most E, or the given number.
  public func expertsPerToken(_ settings: Settings) -> Int {
    settings.expertsPerToken ?? min(expertsPerToken, max(settings.expertCount, 1))
  }

  /// Returns the policy for settings. A value whose option the preset does not have is ignored; the caller refuses it
  /// first.
  public func policy(_ settings: Settings) -> RoutingPolicy {
    var policy = make(settings)
    if settings.dropsNothing { policy.capacity?.rule = .unlimited }
    if let size = settings.groupSize {
      // Without a capacity the groups are those of the loss alone.
      policy.capacity?.scope = .group(size)
    }
    if let scale = settings.scale { policy.scale = scale }
    if let first = settings.first { policy.choice.first = first }
    return policy
  }
}

extension RoutingPreset.Settings {
  /// Returns the capacity of a rule that takes the factor, or the plain number; nil if neither is given and there is no
  /// default.
  ///
  /// - Parameters:
  ///   - standard: the system's own factor; nil if it drops nothing by itself.
  ///   - priority: the order in which choices claim rows.
  ///   - rule: the formula for a factor.
  func capacity(
    _ standard: Double?, _ priority: RoutingPolicy.Capacity.Priority = .choiceThenToken,
    _ rule: (Double) -> CapacityRule
  ) -> RoutingPolicy.Capacity? {
    let chosen = capacity.map { CapacityRule.fixed($0) } ?? (capacityFactor ?? standard).map(rule)
    return chosen.map { RoutingPolicy.Capacity(rule: $0, priority: priority) }
  }

  /// Returns the order in which choices claim rows.
  func priority(
    latest: RoutingPolicy.Capacity.Priority, lowestWeight: RoutingPolicy.Capacity.Priority = .weight,
    standard: RoutingPreset.DropOrder
  ) -> RoutingPolicy.Capacity.Priority {
    (dropOrder ?? standard) == .latest ? latest : lowestWeight
  }

}
