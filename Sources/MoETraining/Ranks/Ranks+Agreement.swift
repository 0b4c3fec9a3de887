internal import ExpertParallel

extension Ranks {
  /// An error of the first rank, as the others know it.
  private struct Told: Error, CustomStringConvertible { let description: String }

  /// Does something on the first rank alone, such as writing a file, while the others wait. A collective.
  ///
  /// - Throws: `SharedFailure` with what `body` throws, on all ranks.
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

  /// Calls `body`, whose waits may be for a rank at a large file: longer than for any exchange.
  func patiently<Result>(_ body: () throws -> Result) throws -> Result {
    let usual = communicator.timeout
    communicator.timeout = max(usual, .seconds(600))
    defer { communicator.timeout = usual }
    return try body()
  }

  /// The complaint that comes first, in order of place and then of rank; nil where no rank has one. A collective.
  ///
  /// - Parameter complaint: this rank's, with the place that it is about.
  func first(_ complaint: (place: Int, text: String)?, step: String) throws -> String? {
    let places = try communicator.allGather([complaint?.place ?? .max], during: step)
    let texts = try communicator.allGatherLists(Array((complaint?.text ?? "").utf8), during: step)
    guard let place = places.min(), place < .max else { return nil }
    return String(decoding: texts[places.firstIndex(of: place)!], as: UTF8.self)
  }

  /// The largest of what the ranks say. A collective.
  func largest(_ value: Int, step: String) throws -> Int {
    try communicator.allReduce(value, .maximum, during: step)
  }
}
