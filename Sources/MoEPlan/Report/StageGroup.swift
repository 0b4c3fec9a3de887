/// Groups of stages, each of which has one colour in the drawing.
enum StageGroup: String, CaseIterable {
  case experts, exchange, dense
  case routing = "routing and metadata"
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

  /// Returns the seconds of each group in a step, in the order of the cases.
  static func seconds(_ stages: StageTimes) -> [(group: StageGroup, seconds: Double)] {
    allCases.map { group in
      (group, stages.stages.reduce(0) { StageGroup(stage: $1.name) == group ? $0 + $1.seconds : $0 })
    }
  }
}
