/// The rules in which experts, a plan or a table choose.
extension RoutingPreset {
  private static let chosen: Set<Option> = [.capacityFactor, .groupSize, .mask]

  static let assignments: [RoutingPreset] = [
    RoutingPreset(
      "expert-choice", "each expert takes its best tokens; a token may get none or several experts",
      source: "Zhou et al. 2022; flaxformer ExpertsChooseMaskedRouter", k: 1,
      chosen.union([.minimumCapacity]),
      { settings in
        expertChoice(
          .softmaxOverExperts,
          settings.capacity(1) { .flaxformer(factor: $0, minimum: settings.minimumCapacity ?? 4) })
      }),
    RoutingPreset(
      "mesh-expert-choice", "experts choose by the softmax over tokens; weights are shared among them",
      source: "mesh-tensorflow _expert_selection_gating", k: 1, chosen.union([.minimumCapacity]),
      { settings in
        expertChoice(
          .softmaxOverTokens,
          settings.capacity(1.25) { .meshTensorFlow(factor: $0, minimum: settings.minimumCapacity ?? 4) })
      }),
    RoutingPreset(
      "vmoe-expert-choice", "experts choose with V-MoE's capacity",
      source: "vmoe NoisyTopItemsPerExpertRouter", k: 1, chosen.subtracting([.mask]),
      { settings in
        expertChoice(.softmaxOverExperts, settings.capacity(1) { .vmoe(factor: $0) }).with {
          if let noise = settings.logitNoise { $0.noise.logits = .normal(deviation: noise) }
        }
      }),
    RoutingPreset(
      "hash", "a token's id tells its expert (--token-ids); weight 1",
      source: "Roller et al. 2021; lingvo HashGatingOnLogits", k: 1, [.capacity, .mask, .tokenIDs],
      { settings in
        RoutingPolicy(
          scoring: .softmaxOverSelected,
          capacity: settings.capacity.map { .init(rule: .fixed($0), priority: .tokenThenChoice) },
          loadBalance: .none
        ).with { $0.assignment = .hash }
      }),
    RoutingPreset(
      "megatron-sinkhorn", "a doubly normalised plan chooses in training (--train), tokens at evaluation",
      source: "Megatron-Core sinkhorn", k: 1, [.topK],
      { settings in
        RoutingPolicy(
          scoring: settings.expertsPerToken ?? 1 == 1 ? .sigmoid : .softmax, loadBalance: .none
        ).with { $0.assignment = .sinkhorn }
      }),
    RoutingPreset(
      "base", "an auction gives experts equally many tokens in training (--train); top-1 at evaluation",
      source: "Lewis et al. 2021; fairseq BaseLayer", k: 1, [.mask],
      { _ in
        RoutingPolicy(scoring: .sigmoidOfSelected, loadBalance: .none).with { $0.assignment = .balanced }
      }),
    RoutingPreset(
      "soft-moe", "slots are means of all tokens, tokens means of all slots; logits are [T, E·S]",
      source: "Puigcerver et al. 2023 §2.1; vmoe projects/soft_moe", k: 1, [.mask],
      { _ in
        RoutingPolicy(scoring: .softmax, loadBalance: .none).with { $0.assignment = .soft(slots: 1) }
      }),
    RoutingPreset(
      "quantile-balanced", "a selection bias from quantiles of the logits; softmax over the chosen",
      source: "Megatron-Core qb_dual_update", k: 2, [.topK, .selectionBias],
      { _ in RoutingPolicy(scoring: .softmaxOverSelected, loadBalance: .none) }),
  ]

  private static func expertChoice(
    _ form: RoutingPolicy.ExpertChoice, _ capacity: RoutingPolicy.Capacity?
  ) -> RoutingPolicy {
    RoutingPolicy(scoring: .softmax, capacity: capacity, loadBalance: .none).with {
      $0.assignment = .expertChoice(form)
    }
  }
}
