package import ExpertParallel
internal import MoECheckpoints

/// The name of a matrix and its shape `[rows, columns]`.
package struct MatrixName: Equatable, Sendable {
  package var name: String
  package var shape: [Int]

  package init(name: String, shape: [Int]) { (self.name, self.shape) = (name, shape) }
}

/// The ranks that write or read a checkpoint together: those of a communicator, or this process alone.
package struct CheckpointRanks {
  private let communicator: (any Communicator)?

  /// - Parameter communicator: nil for this process alone.
  package init(_ communicator: (any Communicator)?) { self.communicator = communicator }

  package var rank: Int { communicator?.rank ?? 0 }
  package var size: Int { communicator?.size ?? 1 }

  /// Returns the values of each rank, in order of rank. A collective.
  func gather<Element: BitwiseCopyable>(_ values: [Element], step: String) throws -> [[Element]] {
    try communicator?.allGatherLists(values, during: step) ?? [values]
  }

  /// Returns the strings of each rank, in order of rank. A collective.
  ///
  /// - Precondition: no string has a zero byte.
  func gather(_ strings: [String], step: String) throws -> [[String]] {
    guard let communicator else { return [strings] }
    let bytes: [UInt8] = strings.flatMap { Array($0.utf8) + [UInt8(0)] }
    return try communicator.allGatherLists(bytes, during: step).map { list in
      list.split(separator: 0, omittingEmptySubsequences: false).dropLast().map { bytes in
        String(decoding: bytes, as: UTF8.self)
      }
    }
  }

  /// Returns the names and shapes of the matrices that each rank holds, in order of rank. A collective.
  func gather(_ entries: [CheckpointEntry], step: String) throws -> [[MatrixName]] {
    let names = try gather(entries.map(\.name), step: step)
    let shapes = try gather(entries.flatMap(\.shape), step: step)
    return zip(names, shapes).map { names, shapes in
      names.indices.map { MatrixName(name: names[$0], shape: Array(shapes[2 * $0..<2 * $0 + 2])) }
    }
  }

  /// Calls `body` on every rank. A collective.
  ///
  /// - Throws: on all ranks the `CheckpointError` of the lowest rank on which `body` throws one.
  func agree<Result>(step: String, _ body: () throws -> Result) throws -> Result {
    var result: Result?
    var failure: CheckpointError?
    do {
      result = try body()
    } catch let error as CheckpointError {
      failure = error
    }
    let failures = try gather(failure.map { [$0.path, $0.complaint] } ?? [], step: step)
    if let first = failures.first(where: { !$0.isEmpty }) { throw CheckpointError(first[0], first[1]) }
    return result!
  }
}
