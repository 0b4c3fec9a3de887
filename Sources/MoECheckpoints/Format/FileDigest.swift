/// How long a file is and what SHA-256 makes of it.
package struct FileDigest: Sendable, Equatable {
  /// Bytes.
  package var byteCount: Int
  /// 32 bytes.
  package var sha256: [UInt8]

  /// Collects both.
  package init(byteCount: Int, sha256: [UInt8]) {
    self.byteCount = byteCount
    self.sha256 = sha256
  }

  /// The hash as 64 digits.
  package var hexadecimal: String {
    sha256.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
  }
}
