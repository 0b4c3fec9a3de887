import MoE

/// The tokens that two policies route differently, and the rule that tells them apart.
struct RouteDifference {
  /// The rule by which the routes of a token differ, the first that does in the order of routing.
  private enum Kind: String, CaseIterable {
    case choice = "other experts"
    case second = "the rule of the second expert"
    case capacity = "dropping"
    case weight = "weights"
  }

  private let left: RoutedLogits
  private let right: RoutedLogits

  init(_ routed: [RoutedLogits]) { (left, right) = (routed[0], routed[1]) }

  /// Prints a line per token that differs, and a summary.
  func write() {
    var counts: [Kind: Int] = [:]
    var table = TextTable("token", "differs by", left.name, right.name, leftAligned: [1, 2, 3])
    for token in 0..<left.record.tokenCount {
      guard let kind = difference(token) else { continue }
      counts[kind, default: 0] += 1
      table.add("\(token)", kind.rawValue, cell(left, token), cell(right, token))
    }
    let total = counts.values.reduce(0, +)
    if total > 0 { table.write() }
    let out = StandardStream.output
    out.line("\(total) of \(left.record.tokenCount) tokens are routed differently")
    for kind in Kind.allCases { if let count = counts[kind] { out.line("\(count) by \(kind.rawValue)") } }
    for routed in [left, right] {
      let record = routed.record
      out.line(
        "\(routed.name): top-\(record.expertsPerToken), "
          + (record.capacity.map { "capacity \($0)" } ?? "nothing is dropped")
          + ", dropped \(record.droppedCount) choices, auxiliary loss \(fixed(routed.losses.loadBalance, 6))")
    }
  }

  private func difference(_ token: Int) -> Kind? {
    let (a, b) = (routes(left, token), routes(right, token))
    if Set(a.map(\.chosen)) != Set(b.map(\.chosen)) { return .choice }
    let taken = { (routes: [Route]) in Set(routes.filter { $0.reason != .secondRule }.map(\.chosen)) }
    if taken(a) != taken(b) { return .second }
    let kept = { (routes: [Route]) in Set(routes.filter { $0.reason == .kept }.map(\.chosen)) }
    if kept(a) != kept(b) { return .capacity }
    let weights = { (routes: [Route]) in
      Dictionary(uniqueKeysWithValues: routes.filter { $0.reason == .kept }.map { ($0.chosen, $0.weight) })
    }
    let (wa, wb) = (weights(a), weights(b))
    // Weights that differ by rounding alone are the same rule.
    return wa.allSatisfy { abs($1 - wb[$0]!) <= 1e-6 * max(abs($1), 1e-30) } ? nil : .weight
  }

  private struct Route {
    /// The expert, also of a choice that is not taken; −1 for padding.
    let chosen: Int32
    let reason: RoutedLogits.DropReason
    let weight: Float
  }

  private func routes(_ routed: RoutedLogits, _ token: Int) -> [Route] {
    let k = routed.record.expertsPerToken
    return (token * k..<(token + 1) * k).map {
      let id = routed.record.expertIDs[$0]
      return Route(
        chosen: id < -1 ? -2 - id : id, reason: routed.reason($0), weight: routed.record.expertWeights[$0])
    }
  }

  private func cell(_ routed: RoutedLogits, _ token: Int) -> String {
    routes(routed, token).map { route in
      switch route.reason {
      case .kept: "\(route.chosen)×\(fixed(Double(route.weight), 4))"
      case .capacity: "\(route.chosen) dropped"
      case .secondRule: "\(route.chosen) not taken"
      case .padding: "padding"
      }
    }.joined(separator: ", ")
  }
}
