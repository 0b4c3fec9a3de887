internal import ExpertParallel

/// What every rank throws alike: it is enough that one of them says it.
public struct SharedFailure: Error, CustomStringConvertible {
  /// The error; on ranks that only heard of it, its words.
  public let error: any Error
  /// One plain sentence without a full stop.
  public var description: String { "\(error)" }
}

extension Ranks {
  /// An error of another rank.
  private struct Told: Error, CustomStringConvertible { let description: String }

  /// Does something on the first rank alone, such as writing a file, while the others wait. A collective.
  ///
  /// - Throws: ``SharedFailure`` with what `body` throws, on all ranks.
  func onFirst(_ step: String, _ body: () throws -> Void) throws {
    try together(step) { if isFirst { try body() } }
  }

  /// Does something on each rank, such as reading a file. A collective.
  ///
  /// - Throws: ``SharedFailure`` with what `body` throws on the lowest rank on which it does, on all ranks.
  func together(_ step: String, _ body: () throws -> Void) throws {
    var failure: (any Error)?
    do {
      try body()
    } catch let error as CommunicationError {
      throw error
    } catch {
      failure = error
    }
    // A large file may take longer than any exchange should.
    let usual = communicator.timeout
    communicator.timeout = max(usual, .seconds(600))
    defer { communicator.timeout = usual }
    let texts = try communicator.allGatherLists(Array((failure.map { "\($0)" } ?? "").utf8), step: step)
    guard let rank = texts.firstIndex(where: { !$0.isEmpty }) else { return }
    if rank == communicator.rank, let failure { throw SharedFailure(error: failure) }
    throw SharedFailure(error: Told(description: String(decoding: texts[rank], as: UTF8.self)))
  }

  /// The complaint that comes first, in order of place and then of rank; nil where no rank has one. A collective.
  ///
  /// - Parameter complaint: this rank's, with the place that it is about.
  func first(_ complaint: (place: Int, text: String)?, step: String) throws -> String? {
    let places = try communicator.allGather([complaint?.place ?? .max], step: step)
    let texts = try communicator.allGatherLists(Array((complaint?.text ?? "").utf8), step: step)
    guard let place = places.min(), place < .max else { return nil }
    return String(decoding: texts[places.firstIndex(of: place)!], as: UTF8.self)
  }

  /// Whether any rank says so. A collective.
  func any(_ isSo: Bool, step: String) throws -> Bool {
    try communicator.allReduce(isSo ? 1 : 0, .maximum, step: step) > 0
  }
}
