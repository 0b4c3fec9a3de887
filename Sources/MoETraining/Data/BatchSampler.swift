internal import MoE

/// Draws the sequences to train on. They depend only on the seed and the step, so a resumed run sees the sequences
/// that an uninterrupted run would see.
public struct BatchSampler: Sendable {
  /// B sequences of S bytes and the bytes that follow each of them, `[B·S]`.
  public struct Batch: Sendable, Equatable {
    /// The bytes that the model reads.
    public var inputs: [UInt8] = []
    /// The byte that follows each of them.
    public var targets: [UInt8] = []
  }

  private let texts: [[UInt8]]
  private let sequenceLength: Int
  private let batchSize: Int
  private let seed: UInt64
  private let balancesLabels: Bool

  /// Makes a sampler.
  ///
  /// - Parameters:
  ///   - corpus: the texts.
  ///   - sequenceLength: S.
  ///   - batchSize: B.
  ///   - seed: the seed of the draws.
  ///   - balancesLabels: whether each label is drawn equally often, rather than in proportion to its bytes.
  /// - Throws: ``TrainingError/text(path:_:)`` naming a label with fewer than S + 1 bytes.
  public init(
    _ corpus: TextCorpus, sequenceLength: Int, batchSize: Int, seed: UInt64, balancesLabels: Bool = false
  ) throws(TrainingError) {
    guard !corpus.texts.isEmpty else { throw .text(path: "--text", "there is no text to train on") }
    for text in corpus.texts where text.train.count < sequenceLength + 1 {
      throw .text(
        path: text.label,
        "the text has \(text.train.count) bytes to train on, expected at least \(sequenceLength + 1), one more "
          + "than a context")
    }
    texts = corpus.texts.map(\.train)
    self.sequenceLength = sequenceLength
    self.batchSize = batchSize
    self.seed = seed
    self.balancesLabels = balancesLabels
  }

  /// Returns the batch of a step.
  public func batch(at step: Int) -> Batch {
    var batch = Batch()
    for sequence in 0..<batchSize {
      var mixer = SeededGenerator(seed: seed ^ 0x7465_7874)
      for number in [step, sequence] {
        mixer = SeededGenerator(seed: mixer.next() ^ UInt64(truncatingIfNeeded: number))
      }
      let text = texts[label(&mixer)]
      let start = Self.below(text.count - sequenceLength, &mixer)
      batch.inputs += text[start..<start + sequenceLength]
      batch.targets += text[start + 1...start + sequenceLength]
    }
    return batch
  }

  private func label(_ generator: inout SeededGenerator) -> Int {
    if balancesLabels { return Self.below(texts.count, &generator) }
    var place = Self.below(texts.reduce(0) { $0 + $1.count }, &generator)
    for (index, text) in texts.enumerated() {
      if place < text.count { return index }
      place -= text.count
    }
    return texts.count - 1
  }

  /// Returns a number in 0..<`bound`: the high half of a product. For texts shorter than 2^40 bytes its bias is below
  /// 2^−24.
  private static func below(_ bound: Int, _ generator: inout SeededGenerator) -> Int {
    Int(generator.next().multipliedFullWidth(by: UInt64(bound)).high)
  }
}
