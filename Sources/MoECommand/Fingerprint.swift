import Crypto
import Foundation
import MoECheckpoints

/// A short hash of what is read, by which ranks notice that they read different things.
struct Fingerprint {
  private var hash = SHA256()

  /// Adds bytes.
  mutating func add(_ bytes: UnsafeRawBufferPointer) { unsafe hash.update(bufferPointer: bytes) }

  /// The first 64 of the 256 bits, as hexadecimal digits.
  var text: String {
    hash.finalize().prefix(8).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
  }
}

extension CheckpointLayer {
  /// A fingerprint of config.json and, for each tensor of the block, of its name, type and shape and of its first, middle
  /// and last 4 KiB. The rest of the tensors is not compared: that would make each rank read the experts of all ranks.
  func fingerprint() throws -> String {
    var fingerprint = Fingerprint()
    try unsafe forEachIdentifyingPiece { unsafe fingerprint.add($0) }
    return fingerprint.text
  }
}

extension ActivationFile {
  /// A fingerprint of the tensor's shape and of all its bytes.
  func fingerprint() throws -> String {
    var fingerprint = Fingerprint()
    unsafe Array("\(shape)".utf8).withUnsafeBytes { unsafe fingerprint.add($0) }
    try unsafe withBytes { unsafe fingerprint.add($0) }
    return fingerprint.text
  }
}
