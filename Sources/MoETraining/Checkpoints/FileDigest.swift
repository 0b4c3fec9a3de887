internal import Crypto
internal import Foundation
package import MoECheckpoints

/// The length and the SHA-256 (FIPS 180-4) of a file.
package struct FileDigest: Sendable, Equatable {
  /// The number of bytes.
  package var byteCount: Int
  /// The SHA-256, 32 bytes.
  package var sha256: [UInt8]

  /// Collects both values.
  package init(byteCount: Int, sha256: [UInt8]) {
    self.byteCount = byteCount
    self.sha256 = sha256
  }

  /// Hashes bytes in memory.
  package init(of bytes: [UInt8]) {
    var builder = Builder()
    builder.add(bytes)
    self = builder.digest
  }

  /// The hash as 64 hexadecimal digits.
  package var hexadecimal: String {
    sha256.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
  }

  /// Computes the digest of bytes that arrive in pieces.
  struct Builder {
    private var hash = SHA256()
    private var byteCount = 0

    /// Adds bytes.
    mutating func add(_ bytes: [UInt8]) { unsafe bytes.withUnsafeBytes { unsafe add($0) } }

    /// Adds bytes.
    mutating func add(_ bytes: UnsafeRawBufferPointer) {
      byteCount += bytes.count
      unsafe hash.update(bufferPointer: bytes)
    }

    /// The digest of all bytes that were added.
    var digest: FileDigest { FileDigest(byteCount: byteCount, sha256: Array(hash.finalize())) }
  }
}

extension SafetensorsFile {
  /// Reads the whole file and returns its digest.
  package func digest() -> FileDigest {
    var builder = FileDigest.Builder()
    unsafe withAllBytes { _, bytes in unsafe builder.add(bytes) }
    return builder.digest
  }

  /// Returns the digest of the file with zeros, as ASCII digits, in the place of `digits` in its header.
  ///
  /// - Parameter digits: a text of the header.
  /// - Returns: nil where the header does not have the text exactly once.
  func digest(zeroing digits: String) -> FileDigest? {
    let wanted = Array(digits.utf8)
    return unsafe withAllBytes { headerCount, bytes in
      var head = unsafe Array(bytes.prefix(headerCount))
      let places = head.indices.filter { head[$0...].starts(with: wanted) }
      guard !wanted.isEmpty, places.count == 1 else { return nil }
      for index in wanted.indices { head[places[0] + index] = UInt8(ascii: "0") }
      var builder = FileDigest.Builder()
      builder.add(head)
      unsafe builder.add(UnsafeRawBufferPointer(rebasing: bytes.dropFirst(headerCount)))
      return builder.digest
    }
  }
}

extension SafetensorsWriter {
  /// Returns the digest of the file that `write(to:)` would write.
  func digest() -> FileDigest {
    var builder = FileDigest.Builder()
    forEachPiece { builder.add($0) }
    return builder.digest
  }

  /// Writes the file as `write(to:)` does, and returns its digest.
  package func writeDigested(to path: String) throws(CheckpointError) -> FileDigest {
    var builder = FileDigest.Builder()
    try write(to: path) { builder.add($0) }
    return builder.digest
  }
}
