/// The layout of an exchange's identity in an MPI tag: context, sequence (modulo), stage.
package struct TagLayout {
  /// The number of operations of a group that may be under way at once.
  package let sequenceCount: Int
  /// The number of groups that a rank may have.
  package let contextCount: Int

  /// - Parameter largestTag: MPI_TAG_UB, at least 32767.
  package init(largestTag: Int) {
    var bits = 0
    while bits < 31, 1 << (bits + 1) <= largestTag + 1 { bits += 1 }
    let free = bits - ExchangeID.stageLimit.trailingZeroBitCount
    sequenceCount = 1 << (free * 3 / 5)
    contextCount = 1 << (free - free * 3 / 5)
  }

  /// Returns the tag of an exchange; nil if the rank has more groups than there are tags.
  package func tag(context: Int, sequence: Int, stage: Int) -> Int? {
    guard context < contextCount else { return nil }
    return (context * sequenceCount + sequence % sequenceCount) * ExchangeID.stageLimit + stage
  }
}
