internal import ExpertParallel

extension Ranks {
  /// The error of the first rank as the other ranks know it: only its text.
  private struct Told: Error, CustomStringConvertible { let description: String }

  /// Calls `body` on the first rank alone, for example to write a file, while the others wait. A collective.
  ///
  /// - Throws: on all ranks `SharedFailure` with the error that `body` throws.
  func onFirst(_ step: String, _ body: () throws -> Void) throws {
    var failure: (any Error)?
    if isFirst { do { try body() } catch { failure = error } }
    let texts = try patiently {
      try communicator.allGatherLists(Array((failure.map { "\($0)" } ?? "").utf8), during: step)
    }
    if let failure { throw SharedFailure(error: failure) }
    if !texts[0].isEmpty {
      throw SharedFailure(error: Told(description: String(decoding: texts[0], as: UTF8.self)))
    }
  }

  /// Calls `body` with a timeout of at least 600 s, because a rank that reads or writes a large file takes longer
  /// than any exchange.
  func patiently<Result>(_ body: () throws -> Result) throws -> Result {
    let usual = communicator.timeout
    communicator.timeout = max(usual, .seconds(600))
    defer { communicator.timeout = usual }
    return try body()
  }

  /// Returns the first complaint in order of place and then of rank; nil where no rank has one. A collective.
  ///
  /// - Parameter complaint: this rank's complaint and its place in the order; nil where the rank has none.
  func first(_ complaint: (place: Int, text: String)?, step: String) throws -> String? {
    let places = try communicator.allGather([complaint?.place ?? .max], during: step)
    let texts = try communicator.allGatherLists(Array((complaint?.text ?? "").utf8), during: step)
    guard let place = places.min(), place < .max else { return nil }
    return String(decoding: texts[places.firstIndex(of: place)!], as: UTF8.self)
  }

  /// Returns the largest value of all ranks. A collective.
  func largest(_ value: Int, step: String) throws -> Int {
    try communicator.allReduce(value, .maximum, during: step)
  }
}
