/// The token-choice rules of Tutel, Megatron-Core, MegaBlocks, FastMoE, V-MoE, transformers and Shazeer et al., and rules
/// that many systems share.
extension RoutingPreset {
  private typealias LoadBalance = RoutingPolicy.LoadBalance
  private typealias Priority = RoutingPolicy.Capacity.Priority
  private static let epsilon: Float = 0x1p-23
  private static let drops: Set<Option> = [.capacityFactor, .noDrop]

  static let others: [RoutingPreset] =
    tutel + megatron + fastMoE + vmoe + transformers + [
      RoutingPreset(
        "megablocks", "softmax, top-k, earlier tokens first; no normalisation",
        source: "MegaBlocks layers/moe.py",
        k: 1, drops.union([.topK]),
        { settings in
          RoutingPolicy(
            scoring: .softmax, normalization: settings.normPower.map { .norm(power: $0) } ?? .none,
            capacity: settings.capacity(1, .tokenThenChoice) { .megaBlocks(factor: $0) })
        }),
      RoutingPreset(
        "noisy-topk", "Noisy top-k gating: learned noise in training, softmax over the chosen",
        source: "Shazeer et al. 2017 eq. 3–5", k: 4, [.topK],
        { _ in
          RoutingPolicy(scoring: .softmaxOverSelected, loadBalance: .none).with { $0.noise.logits = .learned }
        }),
    ]

  private static let tutel: [RoutingPreset] = [
    ("tutel", Priority.choiceThenToken, "Tutel: top-k over its sum before dropping"),
    ("tutel-bpr", .batchPrioritized, "Tutel with batch-prioritised routing: best tokens first"),
    ("cosine", .choiceThenToken, "Tutel's cosine gate: logits are cosines over a temperature"),
  ].map { name, priority, summary in
    RoutingPreset(
      name, summary, source: name == "cosine" ? "Tutel gates/cosine_top.py" : "Tutel extract_critical", k: 2,
      drops.union([.topK]),
      { settings in
        return RoutingPolicy(
          scoring: .softmax,
          normalization: settings.expertsPerToken == 1 || settings.isNormalized == false
            ? .none : .sumAtLeast(epsilon),
          // A factor of 0 takes as many rows as the busiest expert has.
          capacity: settings.capacity(1, priority) { $0 == 0 ? .unlimited : .tutel(factor: abs($0)) },
          loadBalance: .firstChoice
        ).with { if let noise = settings.logitNoise { $0.noise.logits = .normal(deviation: noise) } }
      })
  }

  private static let megatron: [RoutingPreset] = [
    (
      "megatron", "Megatron-Core: top-k on the logits, then softmax",
      RoutingPolicy.Scoring.softmaxOverSelected
    ),
    ("megatron-pre-softmax", "Megatron-Core: softmax, then top-k, not normalised", .softmax),
    ("megatron-sigmoid", "Megatron-Core: sigmoid, selection bias, weights over their sum", .sigmoid),
    (
      "megatron-sqrtsoftplus", "Megatron-Core: √softplus, selection bias, weights over their sum",
      .squareRootSoftplus
    ),
  ].map { name, summary, scoring in
    let isSeparate = scoring == .sigmoid || scoring == .squareRootSoftplus
    return RoutingPreset(
      name, summary, source: "Megatron-Core topk_routing_with_score_function", k: 2,
      drops.union([.topK, .dropOrder, .groups, .scale, .mask]).union(isSeparate ? [.selectionBias] : []),
      { settings in
        let chosen = settings.expertsPerToken ?? 2
        return RoutingPolicy(
          scoring: scoring, normalization: isSeparate && chosen > 1 ? .sum(plus: 1e-20) : .none,
          groups: settings.groups.map {
            .init(
              count: $0.count, selected: $0.selected, score: .sum(of: chosen / max($0.selected, 1)),
              mask: .negativeInfinity)
          },
          capacity: settings.capacity(
            nil, settings.priority(latest: .tokenThenChoice, standard: .lowestWeight)
          ) { .megatron(factor: $0) }, loadBalance: .bestChoices)
      })
  }

  private static let fastMoE: [RoutingPreset] = [
    RoutingPreset(
      "fastmoe-naive", "FastMoE: top-k on the logits, then softmax", source: "FastMoE naive_gate.py", k: 2,
      [.topK], { _ in RoutingPolicy(scoring: .softmaxOverSelected, loadBalance: .none) }),
    RoutingPreset(
      "fastmoe-switch",
      "FastMoE's Switch gate, capacity factor 1.2; noise is added to the logits in training",
      source: "FastMoE switch_gate.py", k: 1, drops,
      { settings in
        RoutingPolicy(
          scoring: .softmax,
          capacity: settings.capacity(1.2, .tokenThenChoice) { .fastMoESwitch(factor: $0) },
          loadBalance: .keptChoices
        ).with { $0.noise.logits = .uniform(0.1) }
      }),
    RoutingPreset(
      "fastmoe-gshard",
      "FastMoE's GShard gate: a second expert of weight w with probability 2·w, after dropping",
      source: "FastMoE gshard_gate.py", k: 2, drops.union([.secondPolicy]),
      { settings in
        RoutingPolicy(
          scoring: .softmaxOverSelected,
          capacity: settings.capacity(1.2, .tokenThenChoice) { .fastMoEGShard(factor: $0) },
          loadBalance: .firstChoice
        ).with { $0.choice.second = settings.second ?? .randomAfterDropping(threshold: 0.5) }
      }),
  ]

  private static let vmoe: [RoutingPreset] = [
    ("vmoe", Priority.choiceThenToken, "V-MoE: softmax with noise in training, top-k, capacity factor 1.05"),
    ("vmoe-bpr", .batchPrioritized, "V-MoE with batch-prioritised routing"),
  ].map { name, priority, summary in
    RoutingPreset(
      name, summary, source: "Riquelme et al. 2021 §2, §4.1; vmoe nn/routing.py", k: 2,
      drops.union([.topK, .groupSize]),
      { settings in
        RoutingPolicy(
          scoring: .softmax, capacity: settings.capacity(1.05, priority) { .vmoe(factor: $0) },
          loadBalance: .none
        ).with { $0.noise.logits = .normal(deviation: settings.logitNoise ?? 1) }
      })
  }

  private static let transformers: [RoutingPreset] = [
    RoutingPreset(
      "switch-transformers", "Switch of Hugging Face: 64 rows per expert and sequence (--group-size)",
      source: "transformers SwitchTransformersTop1Router", k: 1, [.capacity, .groupSize, .noDrop],
      { settings in
        RoutingPolicy(
          scoring: .softmax,
          capacity: .init(rule: .fixed(settings.capacity ?? 64)), loadBalance: .firstChoice)
      }),
    nllb("nllb-moe", .choiceThenToken, "NLLB-MoE: top-2, normalised after dropping"),
    nllb("nllb-moe-bpr", .batchPrioritized, "NLLB-MoE with batch-prioritised routing"),
  ]

  private static func nllb(_ name: String, _ priority: Priority, _ summary: String) -> RoutingPreset {
    RoutingPreset(
      name, summary, source: "transformers NllbMoeTop2Router", k: 2,
      drops.union([.capacity, .secondPolicy, .mask]),
      { settings in
        RoutingPolicy(
          scoring: .softmax, normalization: .sumAtLeast(epsilon),
          capacity: settings.capacity(1, priority) { .nllb(fraction: $0) },
          loadBalance: LoadBalance(.everyBest)
        ).with {
          $0.choice.second = settings.second ?? .best
          $0.normalizationTime = settings.isNormalized == true ? .beforeDropping : .afterDropping
        }
      })
  }

  /// Rules that many systems share, without a capacity of their own.
  static let general: [RoutingPreset] = [
    RoutingPreset(
      "softmax-topk", "softmax over all experts, then top-k, weights over their sum",
      source: "Mixtral, Qwen3",
      k: 2, generalOptions, { shared($0, .softmaxTopK(normalized: true)) }),
    RoutingPreset(
      "topk-softmax", "top-k on the logits, then softmax over the selected", source: "gpt-oss, Granite", k: 2,
      generalOptions.subtracting([.groups]), { shared($0, .topKSoftmax) }),
    RoutingPreset(
      "deepseek-v3", "sigmoid, selection bias, 4 of 8 groups by their two best, ×2.5",
      source: "DeepSeek-V3 §2.1.2", k: 8, generalOptions.union([.scale]), { shared($0, deepSeekV3($0)) }),
    RoutingPreset(
      "sparsemixer", "SparseMixer at evaluation, jitter 0.01 (Phi-3.5-MoE)", source: "Liu et al. 2023", k: 2,
      generalOptions.subtracting([.groups, .selectionBias]),
      { shared($0, RoutingPolicy(scoring: .sparseMixer(jitter: 0.01))) }),
    RoutingPreset(
      "llama4", "top-1, the sigmoid of the logit multiplies the expert's input",
      source: "transformers llama4",
      k: 1, generalOptions.subtracting([.groups]), { shared($0, .llama4) }),
  ]

  private static let generalOptions: Set<Option> = [
    .topK, .capacityFactor, .minimumCapacity, .dropOrder, .noDrop, .groups, .groupSize,
    .selectionBias, .mask,
  ]

  /// Adds groups and an exact capacity to a policy that has no rule of its own.
  static func shared(_ settings: Settings, _ policy: RoutingPolicy) -> RoutingPolicy {
    policy.with {
      if let groups = settings.groups {
        $0.groups = .init(
          count: groups.count, selected: groups.selected, score: .topTwoSum, mask: .negativeInfinity)
      }
      let priority = settings.priority(latest: .choiceThenToken, standard: .latest)
      $0.capacity = settings.capacity(nil, priority) { factor in
        let (numerator, denominator) = settings.fraction ?? (Int(factor * 1_000_000), 1_000_000)
        return .exact(
          numerator: numerator, denominator: denominator, minimum: settings.minimumCapacity ?? 0)
      }
    }
  }

  /// Returns eight groups of which each token uses four, where the experts divide into eight groups of two or more;
  /// otherwise no groups.
  private static func deepSeekV3(_ settings: Settings) -> RoutingPolicy {
    let isGrouped = settings.expertCount % 8 == 0 && settings.expertCount >= 16
    return RoutingPolicy.deepseekV3(groups: 8, selectedGroups: 4, normalized: true, scale: 2.5).with {
      if !isGrouped { $0.groups = nil }
    }
  }
}
