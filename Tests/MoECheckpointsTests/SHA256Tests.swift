import Foundation
import MoECheckpoints
import Testing

@Suite struct SHA256Tests {
  private func hash(_ bytes: [UInt8], pieces size: Int = .max) -> String {
    var hash = SHA256()
    var rest = bytes[...]
    while !rest.isEmpty {
      hash.update(Array(rest.prefix(size)))
      rest = rest.dropFirst(size)
    }
    return FileDigest(byteCount: bytes.count, sha256: hash.digest()).hexadecimal
  }

  /// The vectors of the standard's examples (NIST, *Example Algorithms*, and CAVP's empty message).
  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    (
      "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
    ),
  ]) func knownVectors(text: String, digest: String) {
    #expect(hash(Array(text.utf8)) == digest)
  }

  @Test func aMillionTimesTheLetterA() {
    #expect(
      hash([UInt8](repeating: 0x61, count: 1_000_000))
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }

  /// Lengths around the block and around where the length no longer fits the last block.
  @Test func piecesMakeNoDifference() {
    for count in [1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000] {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37) }
      for size in [1, 3, 63, 64, 65, 200] { #expect(hash(bytes, pieces: size) == hash(bytes), "\(count)") }
    }
  }

  @Test func aWriterSaysWhatItWrote() throws {
    try withTemporaryFolder { folder in
      var writer = SafetensorsWriter(metadata: ["step": "3"])
      try writer.add("t", (0..<100_000).map(Float.init), shape: [100_000])
      let path = folder.appending(path: "t.safetensors").path
      let written = try writer.writeDigested(to: path)
      #expect(try SafetensorsFile(path: path).digest() == written)
      #expect(written.hexadecimal == hash(writer.bytes()) && written.byteCount == writer.bytes().count)
    }
  }
}
