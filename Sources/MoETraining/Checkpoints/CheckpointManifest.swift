package import MoECheckpoints

/// The content of `manifest.json`: the files of a checkpoint of several ranks, and the file of each tensor.
package struct CheckpointManifest: Equatable, Sendable {
  /// A tensor and the file that has it.
  package struct Tensor: Equatable, Sendable {
    /// `[rows, columns]`.
    package var shape: [Int]
    /// The index of the file.
    package var file: Int

    /// Collects both values.
    package init(shape: [Int], file: Int) { (self.shape, self.file) = (shape, file) }
  }

  /// The version of the manifest that is written. Version 1, which is also read, had no hash of the manifest itself.
  static let format = 2
  /// The largest number of bytes of a manifest that is read.
  static let limit = 1 << 30
  /// The name of the file in its folder.
  package static let name = "manifest.json"

  /// The step of the run.
  package var step: Int
  /// The metadata: strings about the run, by key.
  package var metadata: NamedValues<String>
  /// The files in order of the ranks that wrote them.
  package var files: [FileDigest]
  /// The tensors by name.
  package var tensors: NamedValues<Tensor>

  /// Describes a checkpoint by its step, metadata, files and tensors.
  package init(
    step: Int, metadata: NamedValues<String>, files: [FileDigest], tensors: NamedValues<Tensor>
  ) {
    self.step = step
    self.metadata = metadata
    self.files = files
    self.tensors = tensors
  }

  /// Returns the name of the file that a rank writes.
  package static func fileName(rank: Int, of count: Int) -> String {
    func five(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    return "rank-\(five(rank))-of-\(five(count)).safetensors"
  }

  /// Returns the name of a file.
  package func fileName(_ file: Int) -> String { Self.fileName(rank: file, of: files.count) }

  /// Returns the names of the tensors in each file, sorted.
  func namesByFile() -> [[String]] {
    var names = [[String]](repeating: [], count: files.count)
    for (name, tensor) in tensors { names[tensor.file].append(name) }
    return names.map { $0.sorted() }
  }

  /// The text of the file, with one line per file and per tensor. Equal contents have equal texts.
  ///
  /// Its last field is the SHA-256 of the text itself with zeros in the place of the hash's 64 digits.
  package var json: String {
    var builder = FileDigest.Builder()
    builder.add(Array(json(sha256: String(repeating: "0", count: 64)).utf8))
    return json(sha256: builder.digest.hexadecimal)
  }

  private func json(sha256: String) -> String {
    let files = files.enumerated().map { index, file in
      let (name, hash) = (jsonString(fileName(index)), file.hexadecimal)
      return "    {\"name\": \(name), \"bytes\": \(file.byteCount), \"sha256\": \"\(hash)\"}"
    }
    let tensors = tensors.map { name, tensor in
      "    \(jsonString(name)): {\"shape\": \(tensor.shape), \"file\": \(tensor.file)}"
    }
    let metadata = metadata.map { key, value in
      "    \(jsonString(key)): \(jsonString(value))"
    }
    return """
      {
        "format": \(Self.format),
        "step": \(step),
        "metadata": {
      \(metadata.joined(separator: ",\n"))
        },
        "files": [
      \(files.joined(separator: ",\n"))
        ],
        "tensors": {
      \(tensors.joined(separator: ",\n"))
        },
        "sha256": "\(sha256)"
      }

      """
  }
}
