/// A failed exchange of data between ranks.
///
/// Every case names the operation (such as "all-to-all"), what the caller was doing (such as "layer 3, forward") and,
/// if they are known, the ranks that caused the failure, by their numbers in the whole job. After every case except
/// ``invalid(operation:during:_:)`` the communicator, and all communicators split from the same one, can no longer be
/// used: their later operations throw the same error.
public enum CommunicationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A wait passed its deadline; a message from or to the `missing` ranks is still under way. They include ranks that
  /// wait for another missing rank in an earlier operation.
  case deadline(operation: String, during: String, after: Duration, missing: [Int])
  /// Ranks ended, by an error or by returning, before they took part.
  case rankEnded(operation: String, during: String, ranks: [Int], reason: String)
  /// The job is being ended from outside, as `mpirun` does when a rank has died; a message from or to the `missing`
  /// ranks is still under way.
  case jobEnded(operation: String, during: String, missing: [Int])
  /// A rank took part differently from what this rank expected, for example with another operation or another number of
  /// bytes.
  case mismatch(operation: String, during: String, rank: Int, String)
  /// An argument is invalid; nothing was sent.
  case invalid(operation: String, during: String, String)
  /// The transport failed; the text is the transport's own.
  case transport(operation: String, during: String, String)
  /// This build does not contain the communicator.
  case unavailable(String)

  /// The error as one sentence, without a full stop.
  public var description: String {
    switch self {
    case .deadline(let operation, let activity, let after, let missing):
      "\(operation) of \(activity): \(Self.list(missing)) missing after \(Self.seconds(after))"
    case .rankEnded(let operation, let activity, let ranks, let reason):
      "\(operation) of \(activity): \(Self.list(ranks)) ended before taking part (\(reason))"
    case .jobEnded(let operation, let activity, let missing):
      "\(operation) of \(activity): the job was told to end, \(Self.list(missing)) missing"
    case .mismatch(let operation, let activity, let rank, let message):
      "\(operation) of \(activity): rank \(rank) \(message)"
    case .invalid(let operation, let activity, let message),
      .transport(let operation, let activity, let message):
      "\(operation) of \(activity): \(message)"
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
