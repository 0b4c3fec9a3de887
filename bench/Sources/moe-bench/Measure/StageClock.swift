/// A stage of a layer's forward pass: one kernel.
enum Stage: String, CaseIterable {
  case router, permute, gather, up, down, combine

  func run(_ kernels: LayerStages) {
    switch self {
    case .router: kernels.route()
    case .permute: kernels.permute()
    case .gather: kernels.gather()
    case .up: kernels.up()
    case .down: kernels.down()
    case .combine: kernels.combine()
    }
  }
}

/// The time of each stage of a forward pass, call by call.
struct StageClock {
  private let kernels: LayerStages
  private var times: [Stage: [Double]] = [:]

  init(_ kernels: LayerStages) { self.kernels = kernels }

  /// Makes one untimed forward pass, then timed ones for `limit` seconds.
  mutating func turn(seconds limit: Double) {
    for stage in Stage.allCases { stage.run(kernels) }
    var total = 0.0
    repeat {
      kernels.advance()
      for stage in Stage.allCases {
        let time = seconds { stage.run(kernels) }
        times[stage, default: []].append(time)
        total += time
      }
    } while total < limit
  }

  /// The median seconds of each stage.
  var medians: [Stage: Double] { times.mapValues(\.median) }
}
