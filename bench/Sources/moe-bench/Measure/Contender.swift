import MoE

/// One way of doing the work of a case, timed in turn with the others.
struct Contender {
  /// The team of threads that works. An idle team spins for a while in case more work comes. On a small machine it
  /// would take a core from the other team.
  enum Team {
    case openMP
    case openBLAS
  }

  /// The contender's name in the report.
  let name: String
  /// The arithmetic whose multiply-add rate is the contender's limit.
  let arithmetic: Limits.Arithmetic
  /// The contender's team of threads.
  var team = Team.openMP
  /// The difference of its result from that of the oracle or the definition, found by the check.
  let error: Double
  /// The preparation before each call, untimed.
  var prepare: () throws -> Void = {}
  /// The call that is timed.
  let run: () throws -> Void
}
