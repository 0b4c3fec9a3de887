import ArgumentParser
import MoE
import MoECheckpoints

/// Applies a routing policy to logits.
struct RouteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "route", abstract: "Apply a routing policy to logits and show where the tokens go.",
    discussion: """
      Prints the load of each expert, what was dropped and the losses. With --output it writes “expert_ids”
      [T,K] I32, “weights” [T,K] F32 (0 where dropped), “slots” [T,K] I32 (−1 where dropped), “counts” [E] I32
      (before dropping), “capacity” [1] I32 (the largest count where nothing can be dropped) and
      “auxiliary_loss” [1] F32 (E·Σ f·P, without a coefficient).

      Examples:
        moe route --list
        moe route logits.safetensors --policy switch --capacity-factor 1.0
        moe route logits.safetensors --policy deepseek-v3 --top-k 4 --output routes.safetensors
      """)

  enum DropPolicy: String, ExpressibleByArgument, CaseIterable {
    case probs
    case position
  }

  @Argument(help: "A safetensors file with “logits” [T,E], or one tensor of that shape.") var logits: String?
  @Option(help: "A name of --list.") var policy: String?
  @Flag(help: "List the policies.") var list = false
  @Option(help: "Experts per token; without it the policy's own number.") var topK: Int?
  @Option(help: "Rows of an expert as a multiple of its even share; the policy says how it is rounded.")
  var capacityFactor: String?
  @Option(help: "The least capacity.") var minCapacity: Int?
  @Option(help: "Which choices of a full expert are dropped: those of low weight, or the latest.")
  var dropPolicy: DropPolicy = .position
  @Flag(help: "Drop nothing, also where the policy would.") var noDrop = false
  @Option(help: "Groups of consecutive experts, of which a token uses --groups-selected.") var groups: Int?
  @Option(help: "Groups a token uses.") var groupsSelected: Int?
  @Option(help: "A tensor [E] of the file that is added to the scores for selection only.")
  var selectionBias: String?
  @Option(help: "The safetensors file to write.") var output: String?
  @OptionGroup var options: ExecutionOptions

  func validate() throws {
    if list { return }
    guard logits != nil else { throw ValidationError("a file with logits is missing") }
    guard let policy else { throw ValidationError("--policy is missing; moe route --list shows the names") }
    guard PolicyPreset.named(policy) != nil else {
      throw ValidationError(
        "--policy is “\(policy)”, expected one of \(PolicyPreset.all.map(\.name).joined(separator: ", "))")
    }
    if let capacityFactor, DecimalFraction(capacityFactor) == nil {
      throw ValidationError(
        "--capacity-factor is “\(capacityFactor)”, expected a positive number such as 1.25")
    }
    if let minCapacity, minCapacity < 0 {
      throw ValidationError("--min-capacity is \(minCapacity), expected at least 0")
    }
    if noDrop, capacityFactor != nil || minCapacity != nil {
      throw ValidationError("--no-drop leaves no capacity to set")
    }
    if (groups == nil) != (groupsSelected == nil) {
      throw ValidationError("--groups and --groups-selected go together")
    }
  }

  func run() throws {
    if list {
      var table = TextTable("policy", "what it does", leftAligned: [1])
      for preset in PolicyPreset.all { table.add(preset.name, preset.summary) }
      for line in table.lines { print(line) }
      return
    }
    let execution = try options.execution()
    let file = try SafetensorsFile(path: logits!)
    let name = file.names.contains("logits") || file.names.count != 1 ? "logits" : file.names[0]
    let matrix = try file.matrix(named: name)
    let bias = try selectionBias.map { try file.floats(named: $0) }
    let preset = PolicyPreset.named(policy!)!
    let expertsPerToken = topK ?? min(preset.expertsPerToken, matrix.columns)
    let routing = routingPolicy(preset, expertCount: matrix.columns)
    let record: RoutingRecord
    do {
      record = try routing.route(
        logits: matrix, expertsPerToken: expertsPerToken, selectionBias: bias, execution: execution)
    } catch {
      throw CheckpointError("\(file.path): tensor “\(name)”", "\(error)")
    }
    if let output { try write(record, to: output) }
    show(record, routing)
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
    let groups = policy.groups.map { "\($0.selected) of \($0.count) groups" } ?? "no groups"
    let capacity = record.capacity.map { "capacity \($0)" } ?? "nothing is dropped"
    print(
      "\(self.policy!): \(record.tokenCount) tokens, top-\(record.expertsPerToken) of \(record.expertCount) "
        + "experts, \(groups), \(capacity)")
    let largest = max(record.counts.max() ?? 0, 1)
    let choices = max(record.counts.reduce(0, +), 1)
    var table = TextTable("expert", "choices", "share", "dropped", "load", leftAligned: [4])
    for expert in 0..<record.expertCount {
      let count = record.counts[expert]
      let bar = String(repeating: "█", count: Int((count * 40 + largest - 1) / largest))
      table.add(
        "\(expert)", "\(count)", "\(fixed(100 * Double(count) / Double(choices), 1)) %",
        "\(record.droppedCounts[expert])", bar)
    }
    table.print()
    print("dropped         \(record.droppedCount) of \(choices) choices")
    print("auxiliary loss  \(fixed(Double(record.loadBalanceLoss), 6)) (1 is balanced)")
    print("router z-loss   \(fixed(Double(record.routerZLoss), 6))")
  }
}
