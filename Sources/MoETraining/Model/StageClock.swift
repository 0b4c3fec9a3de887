/// Seconds since it was made, and of each stage measured with it.
struct StageClock {
  private let start = ContinuousClock.now
  private(set) var seconds: [Stage: Double] = [:]

  /// So far, stages or not.
  var total: Double { (ContinuousClock.now - start) / .seconds(1) }

  mutating func measure<Result, Failure: Error>(
    _ stage: Stage, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let begin = ContinuousClock.now
    let result = try body()
    seconds[stage, default: 0] += (ContinuousClock.now - begin) / .seconds(1)
    return result
  }
}
