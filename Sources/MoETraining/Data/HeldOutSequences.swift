/// The held-out sequences on which a model is evaluated. Every validation uses all of them.
public struct HeldOutSequences: Sendable {
  /// The label of each sequence, as an index into ``labels``.
  public private(set) var labelOfSequence: [Int] = []
  /// `[N·S]`, the bytes that the model reads.
  public private(set) var inputs: [UInt8] = []
  /// `[N·S]`, the byte that follows each of them.
  public private(set) var targets: [UInt8] = []
  /// All labels of the corpus.
  public let labels: [String]
  /// The labels with fewer than S + 1 held-out bytes, which therefore have no sequence.
  public private(set) var missing: [String] = []
  /// S, the length of a sequence.
  public let sequenceLength: Int

  /// Takes up to `perLabel` sequences of each label, spread evenly over its held-out text without overlap.
  public init(_ corpus: TextCorpus, sequenceLength: Int, perLabel: Int = 16) {
    labels = corpus.texts.map(\.label)
    self.sequenceLength = sequenceLength
    for (index, text) in corpus.texts.enumerated() {
      let whole = (text.validation.count - 1) / sequenceLength
      if whole == 0 || text.validation.isEmpty { missing.append(text.label) }
      for sequence in 0..<max(0, min(whole, perLabel)) {
        let start = sequence * whole / min(whole, perLabel) * sequenceLength
        labelOfSequence.append(index)
        inputs += text.validation[start..<start + sequenceLength]
        targets += text.validation[start + 1...start + sequenceLength]
      }
    }
  }

  /// N, the number of sequences.
  public var count: Int { labelOfSequence.count }
}

/// The kind of character to which a byte of UTF-8 belongs.
public enum ByteClass: String, Sendable, CaseIterable {
  case letter, upper, digit, space, punctuation
  case nonASCII = "non-ascii"

  /// The class of a byte. Every byte of a character longer than one byte is ``nonASCII``.
  public init(_ byte: UInt8) {
    self =
      switch byte {
      case 0x80...: .nonASCII
      case UInt8(ascii: "a")...UInt8(ascii: "z"): .letter
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): .upper
      case UInt8(ascii: "0")...UInt8(ascii: "9"): .digit
      case 0...0x20, 0x7F: .space
      default: .punctuation
      }
  }
}
