/// The token-choice rules of the published systems. Numbers in comments are the systems' own defaults in training.
extension RoutingPreset {
  /// The least number by which DeepSpeed, Tutel and transformers divide: the machine epsilon of float32.
  private static let epsilon: Float = 0x1p-23
  private static let drops: Set<Option> = [.capacityFactor, .minimumCapacity, .noDrop, .mask]
  private static let lingvoDrops: Set<Option> = [
    .capacityFactor, .capacity, .noDrop, .mask, .groupSize, .secondPolicy,
  ]

  static let systems: [RoutingPreset] = mesh + flaxformer + lingvo + deepSpeed + others + general

  private static let mesh: [RoutingPreset] = [
    RoutingPreset(
      "switch", "Switch Transformer: top-1, weight = probability, capacity factor 1.25",
      source: "Fedus et al. 2021 §2.1–2.2; mesh-tensorflow _switch_gating", k: 1,
      drops.union([.topK, .dropOrder, .groupSize]),
      { switchGating($0, $0.priority(latest: .choiceThenToken, standard: .latest)) }),
    RoutingPreset(
      "mesh-switch-max", "Switch whose full experts keep the most probable tokens",
      source: "mesh-tensorflow _switch_max_gating", k: 1, drops.union([.groupSize]),
      { switchGating($0, .batchPrioritized) }),
    RoutingPreset(
      "mesh-ntlb", "No Token Left Behind: a dropped token tries its next best expert, 4 times",
      source: "Fedus et al. 2021 appendix B; mesh-tensorflow _ntlb_gating", k: 4,
      drops.union([.topK, .groupSize]).subtracting([.noDrop]),
      { switchGating($0, .nextChoice, LoadBalance(.all, padding: .inMeans)) }),
    RoutingPreset(
      "mesh-top2", "GShard in mesh-tensorflow: a second expert of weight w with probability 5·w",
      source: "mesh-tensorflow _top_2_gating", k: 2, drops.union([.groupSize, .secondPolicy]),
      { settings in
        switchGating(settings, .choiceThenToken, LoadBalance(.first, padding: .inDivisor)).with {
          $0.normalization = .sum(plus: 1e-9)
          $0.choice.second = settings.second ?? .random(threshold: 0.2)
        }
      }),
  ]

  private typealias LoadBalance = RoutingPolicy.LoadBalance
  private typealias Priority = RoutingPolicy.Capacity.Priority

  private static func switchGating(
    _ settings: Settings, _ priority: Priority = .choiceThenToken,
    _ loss: LoadBalance = LoadBalance(.first, padding: .inMeans)
  ) -> RoutingPolicy {
    RoutingPolicy(
      scoring: .softmax,
      capacity: settings.capacity(1.25, priority) {
        .meshTensorFlow(factor: $0, minimum: settings.minimumCapacity ?? 4)
      }, loadBalance: loss)
  }

  private static let flaxformer: [RoutingPreset] = [
    masked("switch-flaxformer", k: 1, .choiceThenToken, "Switch in flaxformer"),
    masked("switch-flaxformer-bpr", k: 1, .batchPrioritized, "Switch in flaxformer, best tokens first"),
    masked("st-moe", k: 2, .choiceThenToken, "ST-MoE: top-2 without normalisation"),
    masked("st-moe-bpr", k: 2, .batchPrioritized, "ST-MoE, best tokens first"),
  ]

  private static func masked(_ name: String, k: Int, _ priority: Priority, _ summary: String) -> RoutingPreset
  {
    RoutingPreset(
      name, summary + ", capacity factor 1.25",
      source: "flaxformer TokensChooseMaskedRouter" + (k == 2 ? "; Zoph et al. 2022" : ""), k: k,
      drops.union([.groupSize]),
      { settings in
        RoutingPolicy(
          scoring: .softmax,
          capacity: settings.capacity(1.25, priority) {
            .flaxformer(factor: $0, minimum: settings.minimumCapacity ?? 4)
          }, loadBalance: LoadBalance(.every, padding: .inDivisor, routerZ: .all))
      })
  }

  private static let lingvo: [RoutingPreset] = [
    RoutingPreset(
      "gshard-top2", "GShard: top-2 over their sum, first choices first, factor 2",
      source: "Lepikhin et al. 2020, Algorithm 1; lingvo Top2GatingOnLogits", k: 2,
      lingvoDrops.union([.dropOrder]), { top2($0) }),
    RoutingPreset(
      "gshard-top2-renormalised", "GShard in lingvo, weights normalised after dropping",
      source: "lingvo Top2GatingOnLogits, legacy_mtf_behavior=False", k: 2,
      lingvoDrops,
      { settings in
        top2(settings, LoadBalance(.first, padding: .nearlyLeft)).with {
          $0.normalization = .sum(plus: 0)
          $0.normalizationTime = .afterDropping
        }
      }),
    RoutingPreset(
      "glam", "GLaM: GShard's top-2 with both experts always, factor 2",
      source: "Du et al. 2021 §3; lingvo Top2GatingOnLogits", k: 2,
      lingvoDrops, { top2($0) }),
  ]

  private static func top2(
    _ settings: Settings, _ loss: LoadBalance = LoadBalance(.first, padding: .inDivisor)
  ) -> RoutingPolicy {
    RoutingPolicy(
      scoring: .softmax, normalization: .sum(plus: 1e-9),
      capacity: settings.capacity(2, settings.priority(latest: .choiceThenToken, standard: .latest)) {
        .lingvo(factor: $0)
      }, loadBalance: loss
    ).with { $0.choice.second = settings.second ?? .best }
  }

  private static let deepSpeed: [RoutingPreset] = [
    RoutingPreset(
      "deepspeed-top1", "DeepSpeed k=1: tokens are dropped at random (RTS), weight = probability",
      source: "DeepSpeed top1gating", k: 1, drops.union([.randomTokenSelection]),
      { settings in
        deepSpeedGate(
          settings, settings.hasRandomTokenSelection ? .random : .choiceThenToken,
          LoadBalance(.first, padding: .inProbabilities)
        )
      }),
    RoutingPreset(
      "deepspeed-top2", "DeepSpeed k=2: second expert sampled, weights normalised after dropping",
      source: "DeepSpeed top2gating", k: 2, drops.union([.secondSampling]).subtracting([.mask]),
      { settings in
        deepSpeedGate(settings, .choiceThenToken, .firstChoice).with {
          if settings.hasSecondSampling { $0.choice.second = .sampled }
          $0.normalization = .sumAtLeast(epsilon)
          $0.normalizationTime = .afterDropping
        }
      }),
    RoutingPreset(
      "deepspeed-topk", "DeepSpeed k≥3: lowest gates dropped, weights normalised after dropping",
      source: "DeepSpeed topkgating", k: 4, drops.union([.topK, .dropOrder]).subtracting([.mask]),
      { settings in
        deepSpeedGate(
          settings,
          settings.priority(latest: .tokenThenChoice, lowestWeight: .gate, standard: .lowestWeight),
          .allChoices
        ).with {
          $0.normalization = .sumAtLeast(epsilon)
          $0.normalizationTime = .afterDropping
        }
      }),
  ]

  private static func deepSpeedGate(
    _ settings: Settings, _ priority: Priority, _ loss: LoadBalance
  ) -> RoutingPolicy {
    RoutingPolicy(
      scoring: .softmax,
      capacity: settings.capacity(1, priority) {
        .deepSpeed(factor: $0, minimum: settings.minimumCapacity ?? 4)
      }, loadBalance: loss)
  }
}
