/// The rules that turn the logits of each token into its experts and their weights.
///
/// The policy reads as a sentence, one property after another: in training, add ``noise``; scale the logits and turn
/// them into scores (``scoring``); let tokens or experts choose (``assignment``); limit the choice to ``groups``; take
/// the k best scores plus selection bias (score descending, then expert index ascending), with the exceptions of
/// ``choice``; take their unbiased scores as weights; divide them (``normalization``, before or after dropping); multiply
/// them by ``scale``; drop the choices that exceed the ``capacity``; apply the weights to the experts' outputs or inputs
/// (``weightPlacement``); and report a balance loss (``loadBalance``). The presets in ``RoutingPreset`` name the systems
/// that are reproduced.
public struct RoutingPolicy: Sendable, Equatable {
  /// The noise in training.
  public var noise: Noise
  /// The factor of the logits: the inverse temperature of a cosine gate.
  public var logitScale: Float
  /// The scores by which experts are compared.
  public var scoring: Scoring
  /// The side that chooses.
  public var assignment: Assignment
  /// The limit to groups, if any.
  public var groups: GroupLimit?
  /// The exceptions from taking the best experts.
  public var choice: Choice
  /// The divisor of the selected weights.
  public var normalization: Normalization
  /// The point at which weights are normalised.
  public var normalizationTime: NormalizationTime
  /// The factor of the normalised weights (`routed_scaling_factor`).
  public var scale: Float
  /// The rule for dropping choices. By default it is nil, and every choice is computed.
  public var capacity: Capacity?
  /// The place where weights are applied.
  public var weightPlacement: WeightPlacement
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
    noise = .none
    logitScale = 1
    assignment = .tokenChoice
    choice = .best
    normalizationTime = .beforeDropping
  }

  /// Returns the policy with changes, so that a preset is one expression.
  func with(_ change: (inout RoutingPolicy) -> Void) -> RoutingPolicy {
    var policy = self
    change(&policy)
    return policy
  }
}
