import MoE
import MoECheckpoints

/// Logits routed by one policy.
struct RoutedLogits {
  /// The reason why a choice is not computed.
  enum DropReason: Int32 {
    case kept
    case capacity
    case secondRule
    case padding
  }

  let name: String
  let policy: RoutingPolicy
  let record: RoutingRecord
  let losses: RoutingLosses

  /// Returns the expert of a choice; −1 for padding and for an expert that is not taken.
  func expert(_ choice: Int) -> Int32 { max(record.expertIDs[choice], -1) }

  /// Returns why a choice is not computed.
  func reason(_ choice: Int) -> DropReason {
    switch record.expertIDs[choice] {
    case -1: .padding
    case ..<(-1): .secondRule
    default: record.slots[choice] < 0 ? .capacity : .kept
    }
  }

  private var choices: Range<Int> { 0..<record.expertIDs.count }

  func write(to path: String) throws {
    let shape = [record.tokenCount, record.expertsPerToken]
    let capacity = record.capacity.map(Int64.init) ?? record.counts.max() ?? 0
    var writer = SafetensorsWriter()
    try writer.add("expert_ids", choices.map(expert), shape: shape)
    try writer.add("weights", record.expertWeights, shape: shape)
    try writer.add("slots", record.slots, shape: shape)
    try writer.add("drop_reasons", choices.map { reason($0).rawValue }, shape: shape)
    try writer.add("margins", record.margins, shape: [record.tokenCount])
    try writer.add("counts", record.counts.map(Int32.init), shape: [record.expertCount])
    try writer.add("capacity", [Int32(clamping: capacity)], shape: [1])
    try writer.add("auxiliary_loss", [Float(losses.loadBalance)], shape: [1])
    try writer.add("z_loss", [Float(losses.routerZ)], shape: [1])
    try writer.write(to: path)
  }

  func show(in stream: StandardStream) {
    let groups = policy.groups.map { "\($0.selected) of \($0.count) groups" } ?? "no groups"
    let capacity = record.capacity.map { "capacity \($0)" } ?? "nothing is dropped"
    stream.line(
      "\(name): \(record.tokenCount) tokens, top-\(record.expertsPerToken) of \(record.expertCount) "
        + "experts, \(groups), \(capacity)")
    let largest = max(record.counts.max() ?? 0, 1)
    let total = record.counts.reduce(0, +)
    var table = TextTable("expert", "choices", "share", "dropped", "load", leftAligned: [4])
    for expert in 0..<record.expertCount {
      let count = record.counts[expert]
      let bar = String(repeating: "█", count: Int((count * 40 + largest - 1) / largest))
      table.add(
        "\(expert)", "\(count)", "\(fixed(100 * Double(count) / Double(max(total, 1)), 1)) %",
        "\(record.droppedCounts[expert])", bar)
    }
    for line in table.lines { stream.line(line) }
    stream.line("dropped         \(record.droppedCount) of \(total) choices")
    let untaken = choices.count { reason($0) == .secondRule }
    if untaken > 0 {
      stream.line("not taken       \(untaken) second experts, by the rule of the second choice")
    }
    let padding = record.tokenCount - record.routedTokenCount
    if padding > 0 { stream.line("padding         \(padding) tokens") }
    stream.line("auxiliary loss  \(fixed(losses.loadBalance, 6)) \(meaning)")
    stream.line("router z-loss   \(fixed(losses.routerZ, 6))")
  }

  private var meaning: String {
    switch policy.loadBalance.choices {
    case .none: "(the policy has none)"
    case .every, .everyBest: "(\(record.expertsPerToken) is balanced)"
    case .first, .all, .best, .kept: "(1 is balanced)"
    }
  }
}
