/// Stages of a step as a drawing shows them.
enum StageGroup: String, CaseIterable {
  case experts, exchange, dense
  case routing = "routing and announcing"
  case gradientSums = "gradient sums"
  case optimizer

  init(stage: String) {
    switch stage {
    case "experts", "experts again", "experts, back": self = .experts
    case "exchange": self = .exchange
    case "dense, forward", "dense, back", "shared gradients": self = .dense
    case "gradient sums": self = .gradientSums
    case "optimizer": self = .optimizer
    default: self = .routing
    }
  }

  /// Seconds of each group in a step, in order.
  static func seconds(_ stages: StageTimes) -> [(group: StageGroup, seconds: Double)] {
    allCases.map { group in
      (group, stages.stages.reduce(0) { StageGroup(stage: $1.name) == group ? $0 + $1.seconds : $0 })
    }
  }
}
