import ArgumentParser
import MoE
import MoECheckpoints

/// Applies a routing policy to logits.
struct RouteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "route", abstract: "Apply a routing policy to logits and show where the tokens go.",
    discussion: """
      Prints the load of each expert, what was dropped and the losses. With --output it writes “expert_ids” \
      [T,K] I32, “weights” [T,K] F32 (0 where dropped), “slots” [T,K] I32 (−1 where dropped), “counts” [E] \
      I32 (before dropping), “capacity” [1] I32 (the largest count where nothing can be dropped) and \
      “auxiliary_loss” [1] F32 (E·Σ f·P, without a coefficient).

      Examples:
        moe route --list
        moe route logits.safetensors --policy switch --capacity-factor 1.0
        moe route logits.safetensors --policy deepseek-v3 --output y.safetensors
      """)

  enum DropPolicy: String, ExpressibleByArgument, CaseIterable {
    case probs
    case position
  }

  @Argument(help: "A safetensors file with “logits” [T,E], or one tensor of that shape.") var logits: String?
  @Option(help: "The policy, by a name of --list.") var policy: String?
  @Flag(help: "List the policies.") var list = false
  @Option(help: "Experts per token (the policy's own number).") var topK: Int?
  @Option(help: "Rows per expert, as a multiple of an equal share; the policy says how it is rounded.")
  var capacityFactor: String?
  @Option(help: "Rows per expert, at least.") var minCapacity: Int?
  @Option(
    help: ArgumentHelp(
      "Which choices of a full expert are dropped: those of the lowest weight, or the latest (position).",
      valueName: DropPolicy.allCases.map(\.rawValue).joined(separator: "|")))
  var dropPolicy: DropPolicy?
  @Flag(help: "Drop nothing, even where the policy would.") var noDrop = false
  @Option(help: "Groups of consecutive experts; each token uses --groups-selected of them.") var groups: Int?
  @Option(help: "Groups that each token uses.") var groupsSelected: Int?
  @Option(help: "Name of a tensor [E] of the file; it is added to the scores for selection only.")
  var selectionBias: String?
  @Option(help: "The safetensors file to write.") var output: String?
  @OptionGroup var options: ExecutionOptions

  func validate() throws {
    if list {
      let given = [
        ("a file", logits != nil), ("--policy", policy != nil), ("--top-k", topK != nil),
        ("--capacity-factor", capacityFactor != nil), ("--min-capacity", minCapacity != nil),
        ("--drop-policy", dropPolicy != nil), ("--no-drop", noDrop), ("--groups", groups != nil),
        ("--groups-selected", groupsSelected != nil), ("--selection-bias", selectionBias != nil),
        ("--output", output != nil),
      ]
      if let option = given.first(where: \.1)?.0 {
        throw ValidationError(
          "--list prints the policies and routes nothing, so it goes without \(option); give one of both")
      }
      return
    }
    guard logits != nil else { throw ValidationError("a file with logits is missing") }
    guard let policy else { throw ValidationError("--policy is missing; moe route --list shows the names") }
    guard let preset = PolicyPreset.named(policy) else {
      throw ValidationError(
        "--policy is “\(policy)”, expected one of \(PolicyPreset.all.map(\.name).joined(separator: ", "))")
    }
    if let capacityFactor, DecimalFraction(capacityFactor) == nil {
      throw ValidationError(
        "--capacity-factor is “\(capacityFactor)”, expected a positive number such as 1.25")
    }
    if let minCapacity, !(0...Int(Int32.max)).contains(minCapacity) {
      throw ValidationError("--min-capacity is \(minCapacity), expected 0 to \(Int32.max)")
    }
    if let topK, topK < 1 { throw ValidationError("--top-k is \(topK), expected at least 1") }
    let given = [
      ("--capacity-factor", capacityFactor != nil), ("--min-capacity", minCapacity != nil),
      ("--drop-policy", dropPolicy != nil),
    ].filter(\.1).map(\.0)
    if noDrop, let option = given.first {
      throw ValidationError("--no-drop leaves nothing for \(option) to do; give one of them")
    }
    if preset.capacity == nil, capacityFactor == nil, let option = given.first {
      throw ValidationError("\(policy) drops nothing by itself; \(option) needs --capacity-factor too")
    }
    if selectionBias != nil, policy == "sparsemixer" {
      throw ValidationError("sparsemixer compares logits and has no --selection-bias")
    }
    if (groups == nil) != (groupsSelected == nil) {
      throw ValidationError("--groups and --groups-selected go together")
    }
    if let groups, let groupsSelected {
      if !preset.takesGroups {
        let names = PolicyPreset.all.filter(\.takesGroups).map(\.name).joined(separator: " or ")
        throw ValidationError(
          "--policy \(policy) has no groups, so --groups and --groups-selected have nothing to do; leave them "
            + "out, or give --policy \(names)")
      }
      if groups < 1 { throw ValidationError("--groups is \(groups), expected at least 1") }
      if groupsSelected < 1 {
        throw ValidationError("--groups-selected is \(groupsSelected), expected at least 1")
      }
    }
  }

  func run() throws {
    if list {
      var table = TextTable("policy", "what it does", leftAligned: [1])
      for preset in PolicyPreset.all { table.add(preset.name, preset.summary) }
      table.write()
      return
    }
    let execution = try options.execution()
    if let output { try AtomicFile.check(output, isNoneOf: [logits!]) }
    let file = try SafetensorsFile(path: logits!)
    let name = file.names.contains("logits") || file.names.count != 1 ? "logits" : file.names[0]
    try file.require(name)
    let matrix = try file.matrix(named: name)
    let bias = try selectionBias.map { try readBias($0, of: file, expertCount: matrix.columns) }
    let preset = PolicyPreset.named(policy!)!
    let expertsPerToken = topK ?? min(preset.expertsPerToken, matrix.columns)
    let routing = routingPolicy(preset, expertCount: matrix.columns)
    if routing.scoring == .softmaxOverSelected, expertsPerToken == 1 {
      StandardStream.errors.line(
        "warning: --policy \(policy!) with a top-k of 1 gives each chosen expert the weight 1, so a router that is "
          + "trained with it gets no gradient; a top-k of 2 or --policy softmax-topk gives one")
    }
    let record: RoutingRecord
    do {
      record = try routing.route(
        logits: matrix, expertsPerToken: expertsPerToken, selectionBias: bias, execution: execution)
    } catch {
      throw CheckpointError("\(file.path): tensor \(quoted(name))", "\(error)")
    }
    if let output { try write(record, to: output) }
    show(record, routing)
  }

  /// Reads the tensor that is added to the scores, one number per expert.
  private func readBias(_ name: String, of file: SafetensorsFile, expertCount: Int) throws -> [Float] {
    try file.require(name)
    let bias = try file.floats(named: name)
    let shape = try file.tensor(name).shape
    guard shape == [expertCount] else {
      throw CheckpointError(
        file.path,
        "tensor \(quoted(name)) has shape \(shape), expected [\(expertCount)], one bias for each expert")
    }
    if let expert = bias.firstIndex(where: { !$0.isFinite }) {
      throw CheckpointError(
        file.path, "tensor \(quoted(name)) has \(bias[expert]) for expert \(expert), expected a number")
    }
    return bias
  }

  private func routingPolicy(_ preset: PolicyPreset, expertCount: Int) -> RoutingPolicy {
    var policy = preset.policy(expertCount)
    if let groups, let groupsSelected {
      policy.groups = .init(
        count: groups, selected: groupsSelected, score: .topTwoSum, mask: .negativeInfinity)
    }
    let fraction = capacityFactor.flatMap { DecimalFraction($0) }
    let rule: CapacityRule? =
      if noDrop {
        nil
      } else if let own = preset.capacity {
        own(fraction?.value, minCapacity)
      } else if let fraction {
        .exact(
          numerator: fraction.numerator, denominator: fraction.denominator, minimum: minCapacity ?? 0)
      } else {
        nil
      }
    policy.capacity = rule.map {
      .init(rule: $0, priority: dropPolicy == .probs ? .weight : .choiceThenToken)
    }
    return policy
  }

  private func write(_ record: RoutingRecord, to path: String) throws {
    let shape = [record.tokenCount, record.expertsPerToken]
    let capacity = record.capacity.map(Int64.init) ?? record.counts.max() ?? 0
    var writer = SafetensorsWriter()
    try writer.add("expert_ids", record.expertIDs, shape: shape)
    try writer.add("weights", record.expertWeights, shape: shape)
    try writer.add("slots", record.slots, shape: shape)
    try writer.add("counts", record.counts.map(Int32.init), shape: [record.expertCount])
    try writer.add("capacity", [Int32(clamping: capacity)], shape: [1])
    try writer.add("auxiliary_loss", [record.loadBalanceLoss], shape: [1])
    try writer.write(to: path)
  }

  private func show(_ record: RoutingRecord, _ policy: RoutingPolicy) {
    let stream = output.map { StandardStream.besides($0) } ?? .output
    let groups = policy.groups.map { "\($0.selected) of \($0.count) groups" } ?? "no groups"
    let capacity = record.capacity.map { "capacity \($0)" } ?? "nothing is dropped"
    stream.line(
      "\(self.policy!): \(record.tokenCount) tokens, top-\(record.expertsPerToken) of \(record.expertCount) "
        + "experts, \(groups), \(capacity)")
    let largest = max(record.counts.max() ?? 0, 1)
    let choices = record.counts.reduce(0, +)
    var table = TextTable("expert", "choices", "share", "dropped", "load", leftAligned: [4])
    for expert in 0..<record.expertCount {
      let count = record.counts[expert]
      let bar = String(repeating: "█", count: Int((count * 40 + largest - 1) / largest))
      table.add(
        "\(expert)", "\(count)", "\(fixed(100 * Double(count) / Double(max(choices, 1)), 1)) %",
        "\(record.droppedCounts[expert])", bar)
    }
    for line in table.lines { stream.line(line) }
    stream.line("dropped         \(record.droppedCount) of \(choices) choices")
    stream.line("auxiliary loss  \(fixed(Double(record.loadBalanceLoss), 6)) (1 is balanced)")
    stream.line("router z-loss   \(fixed(Double(record.routerZLoss), 6))")
  }
}
