import MoE

/// One way of doing the work of a case, timed in turn with the others.
struct Contender {
  /// Whose threads work. An idle team spins for a while in case more work comes, and on a small machine would
  /// take a core from the other team.
  enum Team {
    case openMP
    case openBLAS
  }

  /// What the report calls it.
  let name: String
  /// Whose multiply-add rate is its limit.
  let arithmetic: Limits.Arithmetic
  /// Its threads.
  var team = Team.openMP
  /// How far its result was from the oracle's or the definition's when it was checked.
  let error: Double
  /// Before each call, untimed.
  var prepare: () throws -> Void = {}
  /// The call.
  let run: () throws -> Void
}
