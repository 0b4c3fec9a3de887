/// The sequences a model is judged by: the same at every validation.
public struct HeldOutSequences: Sendable {
  /// The label of each sequence, as an index into ``labels``.
  public private(set) var labelOfSequence: [Int] = []
  /// `[N·S]`: what the model reads.
  public private(set) var inputs: [UInt8] = []
  /// `[N·S]`: what it is to say.
  public private(set) var targets: [UInt8] = []
  /// All labels of the corpus.
  public let labels: [String]
  /// Labels without S + 1 bytes held out.
  public private(set) var missing: [String] = []
  /// S.
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

  /// N.
  public var count: Int { labelOfSequence.count }
}

/// What kind of character a byte of UTF-8 belongs to.
public enum ByteClass: String, Sendable, CaseIterable {
  case letter, upper, digit, space, punctuation
  case nonASCII = "non-ascii"

  /// The class of a byte: any byte of a longer character says that it is one.
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
