public import MoERun

/// Texts by label, each split into a part to train on and a held-out part.
public struct TextCorpus: Sendable {
  /// A file or folder that was left out.
  public struct Skipped: Codable, Sendable, Equatable {
    /// The path. Bytes that are not UTF-8 become replacement characters.
    public var path: String
    /// The reason, in a few words.
    public var reason: String
  }

  /// All files of one label, their bytes one after the other.
  public struct Text: Sendable {
    /// The label of the text.
    public var label: String
    /// Bytes to train on.
    public var train: [UInt8] = []
    /// Bytes held out.
    public var validation: [UInt8] = []
  }

  /// The texts, in the order in which their labels were first named.
  public private(set) var texts: [Text] = []
  /// The files that were read.
  public private(set) var files: [TextFile] = []
  /// The files and folders that were left out.
  public private(set) var skipped: [Skipped] = []

  /// Reads files and folders.
  ///
  /// A folder is read recursively, links included, its files in the order of their paths' bytes. A file is read once,
  /// even if it is named twice or has the bytes of another. Entries that are not read are listed in ``skipped`` with
  /// the reason: hidden entries, pipes, sockets and devices, broken links, files that cannot be read or are not text,
  /// and folders of runs.
  ///
  /// - Parameters:
  ///   - arguments: PATH or LABEL=PATH. An argument that is the path of a file or folder is read as a path, even if
  ///     it has an equals sign. Otherwise the label ends at the first equals sign that such a path follows. Without a
  ///     label, a folder's label is its name, and a file's label is its name without extension.
  ///   - run: the folder of the run, which is left out where it is inside a folder of texts.
  /// - Throws: ``TrainingError/text(path:_:)`` for an argument that cannot be read, for a file named by itself that is
  ///   empty or not UTF-8, and for a folder without a text.
  public init(_ arguments: [String], leavingOut run: String? = nil) throws(TrainingError) {
    var reader = TextReader(leavingOut: run.flatMap { FilePath.find($0)?.target()?.identity })
    for argument in arguments { try reader.read(TextSource(argument)) }
    skipped = reader.skipped
    let labels = reader.files.map(\.label)
    for (index, label) in labels.enumerated() where labels.firstIndex(of: label) == index {
      let read = reader.files.filter { $0.label == label }
      let blocks = read.enumerated().flatMap { file, read in
        TextBlocks.cut(read.bytes).map { TextBlock(file: file, range: $0, hash: contentHash(read.bytes[$0])) }
      }
      var text = Text(label: label)
      var sizes = read.map { TextFile(label: label, path: $0.path, trainBytes: 0, validationBytes: 0) }
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

  /// The number of bytes to train on.
  public var trainBytes: Int { texts.reduce(0) { $0 + $1.train.count } }
  /// The number of held-out bytes.
  public var validationBytes: Int { texts.reduce(0) { $0 + $1.validation.count } }

  /// A hash that changes with any byte, any label and the order of the texts.
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
