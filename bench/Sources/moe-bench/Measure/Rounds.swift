import Foundation

/// The duration of a measurement.
struct Effort {
  /// The number of rounds in which every contender has a turn.
  var rounds: Int
  /// The seconds of a turn. A call that takes longer is made once.
  var seconds: Double
  /// The seconds of a call beyond which a contender has a turn in the first round only.
  var patience = 2.0

  /// The effort that suffices to see that everything works.
  static let quick = Effort(rounds: 1, seconds: 0.005, patience: 0.5)
}

/// Times the contenders in interleaved rounds, so that a slow minute of the machine affects all of them equally.
/// Measures the limits before each round.
func timeInRounds(_ contenders: [Contender], _ effort: Effort, limits: Limits) throws -> [Timings] {
  var timings = Array(repeating: Timings(), count: contenders.count)
  var team = Contender.Team.openMP
  for round in 0..<effort.rounds {
    limits.refresh(for: contenders)
    for (index, contender) in contenders.enumerated() {
      if round > 0 && timings[index].minimum > effort.patience { continue }
      // libomp's threads spin for 200 ms after their last work, OpenBLAS's for less.
      if contender.team != team { Thread.sleep(forTimeInterval: 0.25) }
      team = contender.team
      timings[index].rounds.append(try turn(of: contender, seconds: effort.seconds))
    }
    if team != .openMP { Thread.sleep(forTimeInterval: 0.25) }
    team = .openMP
  }
  return timings
}

/// Makes one untimed call, then timed calls for `seconds`. The first call counts if it took so long that caches cannot
/// matter.
private func turn(of contender: Contender, seconds limit: Double) throws -> [Double] {
  func call() throws -> Double {
    try contender.prepare()
    return try seconds(contender.run)
  }
  let first = try call()
  if first > max(limit, 0.25) { return [first] }
  var times: [Double] = []
  var total = 0.0
  repeat {
    let time = try call()
    times.append(time)
    total += time
  } while total < limit
  return times
}
