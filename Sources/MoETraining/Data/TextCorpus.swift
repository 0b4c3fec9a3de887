/// Texts by label, each split in a part to train on and a part held out.
public struct TextCorpus: Sendable {
  /// A file that was read.
  public struct File: Codable, Sendable, Equatable {
    /// What it counts as: a language, say.
    public var label: String
    /// Where it is.
    public var path: String
    /// Bytes to train on.
    public var trainBytes: Int
    /// Bytes held out.
    public var validationBytes: Int

    enum CodingKeys: String, CodingKey {
      case label, path
      case trainBytes = "train_bytes"
      case validationBytes = "validation_bytes"
    }
  }

  /// A file that was left out, and why.
  public struct Skipped: Codable, Sendable, Equatable {
    /// Where it is.
    public var path: String
    /// Why, in a few words.
    public var reason: String
  }

  /// All files of one label, their bytes one after the other.
  public struct Text: Sendable {
    /// What it counts as.
    public var label: String
    /// Bytes to train on.
    public var train: [UInt8] = []
    /// Bytes held out.
    public var validation: [UInt8] = []
  }

  /// In the order in which labels were first named.
  public private(set) var texts: [Text] = []
  /// What was read.
  public private(set) var files: [File] = []
  /// What was left out.
  public private(set) var skipped: [Skipped] = []

  /// Reads files and folders.
  ///
  /// A folder is read recursively, its files in the order of their names; what is no text in it is left out and
  /// listed. The same file, or the same bytes, count once.
  ///
  /// - Parameter arguments: paths, or LABEL=PATH; without a label a folder counts as its name, a file as its name
  ///   without extension.
  /// - Throws: ``TrainingError/text(path:_:)`` for what cannot be read, and for a file named by itself that is empty
  ///   or not UTF-8.
  public init(_ arguments: [String]) throws(TrainingError) {
    var reader = TextReader()
    for argument in arguments { try reader.read(TextSource(argument)) }
    skipped = reader.skipped
    let labels = reader.files.map(\.label)
    for (index, label) in labels.enumerated() where labels.firstIndex(of: label) == index {
      let read = reader.files.filter { $0.label == label }
      let blocks = read.enumerated().flatMap { file, read in
        TextBlocks.cut(read.bytes).map { TextBlock(file: file, range: $0, hash: contentHash(read.bytes[$0])) }
      }
      var text = Text(label: label)
      var sizes = read.map { File(label: label, path: $0.path, trainBytes: 0, validationBytes: 0) }
      let held = TextBlocks.heldOut(blocks)
      for (block, isHeld) in zip(blocks, held) {
        let bytes = read[block.file].bytes[block.range]
        if isHeld {
          text.validation += bytes
          sizes[block.file].validationBytes += bytes.count
        } else {
          text.train += bytes
          sizes[block.file].trainBytes += bytes.count
        }
      }
      texts.append(text)
      files += sizes
    }
  }

  /// Bytes to train on.
  public var trainBytes: Int { texts.reduce(0) { $0 + $1.train.count } }
  /// Bytes held out.
  public var validationBytes: Int { texts.reduce(0) { $0 + $1.validation.count } }

  /// A number that changes with any byte, label or order of the texts.
  public var fingerprint: String {
    var all: [UInt8] = []
    for text in texts {
      for part in [Array(text.label.utf8), text.train, text.validation] {
        let hash = contentHash(part[...])
        for shift in 0..<8 { all.append(UInt8(truncatingIfNeeded: hash >> (8 * UInt64(shift)))) }
      }
    }
    return String(contentHash(all[...]), radix: 16)
  }
}
