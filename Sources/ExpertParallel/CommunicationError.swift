/// Why ranks could not exchange what they had to.
///
/// Every case names the operation (such as "all-to-all"), the step (the caller's label, such as "layer 3, forward")
/// and, where they are known, the ranks it failed by, as ranks of the whole job. After any case but
/// ``invalid(operation:step:_:)`` the communicator and all that were split from the same one are of no more use: their
/// later operations throw the same error.
public enum CommunicationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A wait passed its deadline; from or to the `missing` ranks something is still under way.
  case deadline(operation: String, step: String, after: Duration, missing: [Int])
  /// Ranks ended, by an error or by returning, before they took part.
  case rankEnded(operation: String, step: String, ranks: [Int], reason: String)
  /// The job is being ended from outside, as `mpirun` does when a rank has died; from or to the `missing` ranks
  /// something is still under way.
  case jobEnded(operation: String, step: String, missing: [Int])
  /// A rank took part otherwise than this one expected.
  case mismatch(operation: String, step: String, rank: Int, String)
  /// What the caller asked for cannot be done; nothing was sent.
  case invalid(operation: String, step: String, String)
  /// The transport failed, in its own words.
  case transport(operation: String, step: String, String)
  /// This build has no such communicator.
  case unavailable(String)

  /// One plain sentence without a full stop.
  public var description: String {
    switch self {
    case .deadline(let operation, let step, let after, let missing):
      "\(operation) of \(step): \(Self.list(missing)) missing after \(Self.seconds(after))"
    case .rankEnded(let operation, let step, let ranks, let reason):
      "\(operation) of \(step): \(Self.list(ranks)) ended before taking part (\(reason))"
    case .jobEnded(let operation, let step, let missing):
      "\(operation) of \(step): the job was told to end, \(Self.list(missing)) missing"
    case .mismatch(let operation, let step, let rank, let message):
      "\(operation) of \(step): rank \(rank) \(message)"
    case .invalid(let operation, let step, let message), .transport(let operation, let step, let message):
      "\(operation) of \(step): \(message)"
    case .unavailable(let message): message
    }
  }

  private static func list(_ ranks: [Int]) -> String {
    switch ranks.count {
    case 0: "ranks that cannot be told"
    case 1: "rank \(ranks[0])"
    default: "ranks " + ranks.dropLast().map(String.init).joined(separator: ", ") + " and \(ranks.last!)"
    }
  }

  private static func seconds(_ duration: Duration) -> String {
    let (seconds, attoseconds) = duration.components
    let thousandths = attoseconds / 1_000_000_000_000_000
    guard thousandths > 0 else { return "\(seconds) s" }
    let digits = String(thousandths + 1000).dropFirst()
    return "\(seconds).\(digits) s"
  }
}
