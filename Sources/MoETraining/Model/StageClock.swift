/// Measures the seconds since it was made, and the seconds of each stage.
struct StageClock {
  private let start = ContinuousClock.now
  private let waitingTime: (() -> Duration)?
  private(set) var seconds: [Stage: Double] = [:]

  /// - Parameter waitingTime: returns how long this rank has waited for others so far. The clock counts this time as
  ///   a stage of its own.
  init(waitingTime: (() -> Duration)? = nil) { self.waitingTime = waitingTime }

  /// The seconds since the clock was made, in stages or between them.
  var total: Double { (ContinuousClock.now - start) / .seconds(1) }

  mutating func measure<Result, Failure: Error>(
    _ stage: Stage, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let (begin, waited) = (ContinuousClock.now, waitingTime?())
    let result = try body()
    var elapsed = ContinuousClock.now - begin
    if let waited, let now = waitingTime?() {
      elapsed -= now - waited
      seconds[.communication, default: 0] += (now - waited) / .seconds(1)
    }
    seconds[stage, default: 0] += elapsed / .seconds(1)
    return result
  }
}
