internal import MoECheckpoints

/// The hash inside a checkpoint of one file. It reveals damage anywhere in the file.
///
/// Two strings of `__metadata__` are the seal: `checkpoint_format`, the version, and `sha256`, the hash of the whole
/// file with zeros in the place of the hash's 64 digits. A file has both or neither, so if damage changes the name of
/// one, the other one reveals it.
enum CheckpointSeal {
  private static let formatKey = "checkpoint_format"
  private static let hashKey = "sha256"
  /// The version of the seal that is written.
  private static let format = 2

  /// Adds the seal to the metadata of `writer`, whose tensors must be complete.
  static func seal(_ writer: inout SafetensorsWriter) {
    writer.metadata[formatKey] = "\(format)"
    writer.metadata[hashKey] = String(repeating: "0", count: 64)
    writer.metadata[hashKey] = writer.digest().hexadecimal
  }

  /// Checks the version. If the file has a seal, reads the whole file and checks every byte.
  ///
  /// - Returns: whether the file has a seal. Files of version 1 have none, so damage to their values cannot be found.
  /// - Throws: `CheckpointError` where the version is not known, or the file was changed after it was sealed.
  static func verify(_ file: SafetensorsFile) throws(CheckpointError) -> Bool {
    try checkFormat(of: file)
    guard let expected = file.metadata[hashKey] else {
      if file.metadata[formatKey] == nil { return false }
      throw CheckpointError(file.path, "its metadata has no \(quoted(hashKey)), so it is damaged")
    }
    guard let found = file.digest(zeroing: expected) else {
      throw CheckpointError(
        file.path, "its header does not have the SHA-256 \(quoted(expected)) exactly once")
    }
    let digits = found.hexadecimal
    guard digits == expected else {
      throw CheckpointError(
        file.path, "has the SHA-256 \(digits), expected \(quoted(expected)) by its metadata, so it is damaged"
      )
    }
    return true
  }

  /// Checks the version of the seal, if there is one.
  ///
  /// - Throws: `CheckpointError` where the version is not known.
  static func checkFormat(of file: SafetensorsFile) throws(CheckpointError) {
    if let found = file.metadata[formatKey], found != "\(format)" {
      throw CheckpointError(
        file.path, "has the checkpoint format \(quoted(found)), expected \(format): another version wrote it")
    }
  }
}
