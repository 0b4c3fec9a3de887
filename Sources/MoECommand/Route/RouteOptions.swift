import ArgumentParser
import MoE

/// The options that change a routing policy.
struct RouteOptions: ParsableArguments {
  enum DropPolicy: String, ExpressibleByArgument, CaseIterable {
    case probs
    case position
  }

  enum SecondPolicy: String, ExpressibleByArgument, CaseIterable {
    case all
    case sampling
    case random
    case threshold
  }

  @Option(help: "Experts per token (the policy's own number).") var topK: Int?
  @Option(help: "Rows per expert, as a multiple of an equal share; the policy says how it is rounded.")
  var capacityFactor: String?
  @Option(help: "Rows per expert, at least.") var minCapacity: Int?
  @Option(help: "Rows per expert, as a plain number.") var capacity: Int?
  @Option(
    help: ArgumentHelp(
      "Which choices of a full expert are dropped: those of the lowest weight, or the latest (position).",
      valueName: DropPolicy.allCases.map(\.rawValue).joined(separator: "|")))
  var dropPolicy: DropPolicy?
  @Flag(help: "Drop nothing, even where the policy would.") var noDrop = false
  @Flag(help: "Drop the latest tokens, not random ones (use_rts=False of DeepSpeed).") var noRts = false
  @Flag(help: "Take the best second expert, not a sampled one (DeepSpeed's top2_2nd_expert_sampling=False).")
  var noSecondSampling = false
  @Option(
    help: ArgumentHelp(
      "The second expert: always, sampled with Gumbel noise, kept with probability weight/threshold, or kept where "
        + "its weight is above the threshold.",
      valueName: SecondPolicy.allCases.map(\.rawValue).joined(separator: "|")))
  var secondPolicy: SecondPolicy?
  @Option(help: "The threshold of --second-policy random or threshold (0.5 and 0.2).") var secondThreshold:
    Float?
  @Option(help: "Groups of consecutive experts; each token uses --groups-selected of them.") var groups: Int?
  @Option(help: "Groups that each token uses.") var groupsSelected: Int?
  @Option(help: "Tokens that compete for rows; without it all tokens do.") var groupSize: Int?
  @Option(help: "The factor of the weights (routed_scaling_factor).") var scale: Float?
  @Option(help: "Name of a tensor [E] of the file; it is added to the scores for selection only.")
  var selectionBias: String?
  @Option(help: "Name of a tensor [T] of the file: 0 for padding, which no expert gets.") var mask: String?
  @Option(help: "Name of a tensor [T] of the file: the token ids, which hash to experts.") var tokenIds:
    String?
  @Option(help: "The seed of random rules.") var seed: UInt64 = 0
  @Flag(help: "Route as in training: with the noise of the system.") var train = false

  /// The options that were given, by their names.
  var given: [String] {
    let all: [(String, Bool)] =
      optionsOfPresets.map { ($0.name, $0.isGiven) } + [
        ("--second-threshold", secondThreshold != nil), ("--groups-selected", groupsSelected != nil),
        ("--train", train),
      ]
    return all.filter(\.1).map(\.0)
  }

  private var optionsOfPresets: [(name: String, isGiven: Bool, option: RoutingPreset.Option)] {
    [
      ("--top-k", topK != nil, .topK), ("--capacity-factor", capacityFactor != nil, .capacityFactor),
      ("--min-capacity", minCapacity != nil, .minimumCapacity), ("--capacity", capacity != nil, .capacity),
      ("--drop-policy", dropPolicy != nil, .dropOrder), ("--no-drop", noDrop, .noDrop),
      ("--no-rts", noRts, .randomTokenSelection), ("--no-second-sampling", noSecondSampling, .secondSampling),
      ("--second-policy", secondPolicy != nil, .secondPolicy), ("--groups", groups != nil, .groups),
      ("--group-size", groupSize != nil, .groupSize), ("--scale", scale != nil, .scale),
      ("--selection-bias", selectionBias != nil, .selectionBias), ("--mask", mask != nil, .mask),
      ("--token-ids", tokenIds != nil, .tokenIDs),
    ]
  }

  /// Refuses values that no policy can use, and options that contradict each other.
  func validateValues() throws {
    if let capacityFactor, DecimalFraction(capacityFactor) == nil {
      throw ValidationError(
        "--capacity-factor is “\(capacityFactor)”, expected a positive number such as 1.25")
    }
    for (name, value, least) in [
      ("--min-capacity", minCapacity, 0), ("--capacity", capacity, 0), ("--group-size", groupSize, 1),
    ] {
      if let value, !(least...Int(Int32.max)).contains(value) {
        throw ValidationError("\(name) is \(value), expected \(least) to \(Int32.max)")
      }
    }
    if let topK, topK < 1 { throw ValidationError("--top-k is \(topK), expected at least 1") }
    if noDrop {
      let dropping = [
        ("--capacity-factor", capacityFactor != nil), ("--min-capacity", minCapacity != nil),
        ("--capacity", capacity != nil), ("--drop-policy", dropPolicy != nil), ("--no-rts", noRts),
      ]
      if let option = dropping.first(where: \.1)?.0 {
        throw ValidationError("--no-drop leaves nothing for \(option) to do; give one of them")
      }
    }
    if capacity != nil,
      let option = [("--capacity-factor", capacityFactor != nil), ("--min-capacity", minCapacity != nil)]
        .first(where: \.1)?.0
    {
      throw ValidationError(
        "--capacity is the number of rows itself, so \(option) has nothing to do; give one of them")
    }
    if (groups == nil) != (groupsSelected == nil) {
      throw ValidationError("--groups and --groups-selected go together")
    }
    if let groups, groups < 1 { throw ValidationError("--groups is \(groups), expected at least 1") }
    if let groupsSelected, groupsSelected < 1 {
      throw ValidationError("--groups-selected is \(groupsSelected), expected at least 1")
    }
    if secondThreshold != nil, secondPolicy != .random, secondPolicy != .threshold {
      throw ValidationError("--second-threshold needs --second-policy random or threshold")
    }
    if let secondThreshold, !(secondThreshold >= 0 && secondThreshold.isFinite) {
      throw ValidationError("--second-threshold is \(secondThreshold), expected at least 0")
    }
    if let scale, !scale.isFinite { throw ValidationError("--scale is \(scale), expected a number") }
  }

  /// Refuses options that a preset does not have.
  func refuseUnused(by preset: RoutingPreset) throws {
    if let unused = optionsOfPresets.first(where: { $0.isGiven && !preset.options.contains($0.option) }) {
      throw ValidationError(complaint(unused, [preset]))
    }
    let dropping = [("--min-capacity", minCapacity != nil), ("--drop-policy", dropPolicy != nil)]
    if capacityFactor == nil, preset.policy(.init(expertCount: 8)).capacity == nil,
      let option = dropping.first(where: \.1)?.0
    {
      throw ValidationError("\(preset.name) drops nothing by itself; \(option) needs --capacity-factor too")
    }
  }

  /// Refuses options that none of several presets has.
  func refuseUnused(byAll presets: [RoutingPreset]) throws {
    if let unused = optionsOfPresets.first(where: { item in
      item.isGiven && presets.allSatisfy { !$0.options.contains(item.option) }
    }) {
      throw ValidationError(complaint(unused, presets))
    }
  }

  private func complaint(
    _ unused: (name: String, isGiven: Bool, option: RoutingPreset.Option), _ presets: [RoutingPreset]
  ) -> String {
    let owners = RoutingPreset.all.filter { $0.options.contains(unused.option) }.map(\.name)
    let some = owners.prefix(4).joined(separator: ", ")
    let names = presets.map(\.name).joined(separator: " nor ")
    let others = "or give --policy \(some)" + (owners.count > 4 ? " …" : "")
    if unused.option == .groups {
      return
        "--policy \(names) has no groups, so --groups and --groups-selected have nothing to do; leave them out, "
        + others
    }
    return "--policy \(names) has no \(unused.name); leave it out, " + others
  }

  /// Returns the settings of a preset for E experts. Options that the preset does not have are left out.
  func settings(of preset: RoutingPreset, expertCount: Int) -> RoutingPreset.Settings {
    func has(_ option: RoutingPreset.Option) -> Bool { preset.options.contains(option) }
    var settings = RoutingPreset.Settings(expertCount: expertCount)
    let fraction = capacityFactor.flatMap { DecimalFraction($0) }
    if has(.topK) { settings.expertsPerToken = topK }
    if has(.capacityFactor), let fraction {
      settings.capacityFactor = fraction.value
      settings.fraction = (fraction.numerator, fraction.denominator)
    }
    if has(.minimumCapacity) { settings.minimumCapacity = minCapacity }
    if has(.capacity) { settings.capacity = capacity }
    if has(.dropOrder) { settings.dropOrder = dropPolicy.map { $0 == .probs ? .lowestWeight : .latest } }
    settings.dropsNothing = noDrop && has(.noDrop)
    settings.hasRandomTokenSelection = !noRts
    settings.hasSecondSampling = !noSecondSampling
    if has(.secondPolicy) { settings.second = second }
    if has(.groups), let groups, let groupsSelected { settings.groups = (groups, groupsSelected) }
    if has(.groupSize) { settings.groupSize = groupSize }
    if has(.scale) { settings.scale = scale }
    return settings
  }

  private var second: RoutingPolicy.Choice.Second? {
    switch secondPolicy {
    case nil: nil
    case .all: .best
    case .sampling: .sampled
    case .random: .random(threshold: secondThreshold ?? 0.5)
    case .threshold: .above(secondThreshold ?? 0.2)
    }
  }
}
