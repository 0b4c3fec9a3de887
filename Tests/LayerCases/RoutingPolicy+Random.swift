public import MoECore

extension RoutingPolicy {
  /// Whether the policy allows a selection bias to be added to the scores that it compares.
  public var comparesBiasedScores: Bool {
    if case .sparseMixer = scoring { false } else { true }
  }

  /// Returns a random policy that `MoEConfiguration` accepts for the two numbers.
  public static func random(
    expertCount: Int, expertsPerToken: Int, using generator: inout SeededGenerator
  ) -> RoutingPolicy {
    var policy = RoutingPolicy(
      scoring: generator.pick([
        .softmax, .sigmoid, .squareRootSoftplus, .softmaxOverSelected, .sigmoidOfSelected,
        .sparseMixer(jitter: 0.01),
      ]),
      normalization: generator.pick([
        .none, .sum(plus: 0), .sum(plus: 1e-9), .sumAtLeast(0.25), .norm(power: 1), .norm(power: 2),
      ]),
      scale: generator.pick([1, 2.5]),
      weightPlacement: generator.pick([.output, .output, .input]),
      capacity: generator.pick([nil, .random(using: &generator)]),
      loadBalance: generator.pick([.firstChoice, .allChoices]))
    if policy.capacity?.priority == .nextChoice { policy.normalization = .none }
    if policy.comparesBiasedScores, let groups = GroupLimit.random(expertCount, using: &generator) {
      policy.groups = groups
      if (try? policy.validate(expertCount: expertCount, expertsPerToken: expertsPerToken)) == nil {
        policy.groups = nil
      }
    }
    for step in rareSteps(using: &generator) {
      var candidate = policy
      step(&candidate)
      let isPossible =
        (try? candidate.validate(expertCount: expertCount, expertsPerToken: expertsPerToken)) != nil
      if isPossible { policy = candidate }
    }
    return policy
  }

  /// Returns changes to rules that few systems have, each in a part of the cases.
  private static func rareSteps(
    using generator: inout SeededGenerator
  ) -> [(inout RoutingPolicy) -> Void] {
    let second: Choice.Second = generator.pick([
      .best, .best, .best, .sampled, .random(threshold: 0.5), .above(0.125),
    ])
    let first: Choice.First = generator.pick([.best, .best, .best, .sampled, .sampledWithTemperature(2)])
    let logits: Noise.Logits = generator.pick([.none, .none, .none, .normal(deviation: 2), .uniform(0.125)])
    let jitter: Float = generator.pick([0, 0, 0.0625, 0.125])
    let dropout: Float = generator.pick([0, 0, 0, 0.25])
    let time: NormalizationTime = generator.pick([.beforeDropping, .beforeDropping, .afterDropping])
    let logitScale: Float = generator.pick([1, 1, 1, 2])
    return [
      { $0.choice.second = second }, { $0.choice.first = first }, { $0.noise.logits = logits },
      { $0.noise.inputJitter = jitter }, { $0.noise.inputDropout = dropout },
      { $0.normalizationTime = time }, { $0.logitScale = logitScale },
    ]
  }

  /// The policy without random choices and with weights that are complete before dropping: what the router's kernel
  /// makes at evaluation is then the best experts and their weights.
  public var deterministic: RoutingPolicy {
    var policy = self
    policy.choice = .best
    policy.noise = .none
    policy.normalizationTime = .beforeDropping
    return policy
  }
}

extension RoutingPolicy.GroupLimit {
  /// Returns a random limit to groups; nil in half of the cases.
  fileprivate static func random(_ expertCount: Int, using generator: inout SeededGenerator) -> Self? {
    let counts = (1...expertCount).filter { expertCount % $0 == 0 }
    let count = generator.pick(counts)
    let limit = Self(
      count: count, selected: Int.random(in: 1...count, using: &generator),
      score: generator.pick([.maximum, .topTwoSum]), mask: generator.pick([.zero, .negativeInfinity]))
    return Bool.random(using: &generator) ? limit : nil
  }
}

extension RoutingPolicy.Capacity {
  /// Returns a random rule for dropping, with the formula of any system, any priority and either scope.
  fileprivate static func random(using generator: inout SeededGenerator) -> Self {
    Self(
      rule: generator.pick([
        .fixed(0), .fixed(2), .exact(numerator: 5, denominator: 4, minimum: 0),
        .exact(numerator: 1, denominator: 2, minimum: 1), .meshTensorFlow(factor: 1), .lingvo(factor: 1),
        .flaxformer(factor: 1.25), .deepSpeed(factor: 1, minimum: 0), .megatron(factor: 0.75),
      ]),
      priority: generator.pick([
        .choiceThenToken, .tokenThenChoice, .weight, .gate, .random, .batchPrioritized, .nextChoice,
      ]),
      scope: generator.pick([.batch, .sequence, .group(5)]))
  }
}

extension ActivationFunction {
  /// Each activation function once; the clamped one has the constants of gpt-oss.
  public static let samples: [ActivationFunction] = [
    .relu, .gelu, .geluTanh, .swiGLU, .geGLU, .geGLUTanh, .clampedSwiGLU(alpha: 1.702, limit: 7),
  ]
}
