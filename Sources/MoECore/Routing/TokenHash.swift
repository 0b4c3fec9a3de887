/// The expert of a token id by a fixed hash, for hash layers without a table (Roller et al. 2021, "Hash Layers For Large
/// Sparse Models", §3.1, random hash).
public struct TokenHash: Sendable, Equatable {
  /// The seed of the hash. Every layer has its own.
  public var seed: UInt64

  /// Makes the hash of a seed.
  public init(seed: UInt64) { self.seed = seed }

  /// Returns the expert of each token id: SplitMix64 of seed and id, modulo the number of experts.
  public func experts(of tokenIDs: [Int32], expertCount: Int) -> [Int32] {
    tokenIDs.map { id in
      var generator = SeededGenerator(
        seed: seed &+ UInt64(truncatingIfNeeded: id) &* 0x9E37_79B9_7F4A_7C15)
      return Int32(generator.next() % UInt64(expertCount))
    }
  }
}
