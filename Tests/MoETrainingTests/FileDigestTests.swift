import Foundation
import MoECheckpoints
import MoETraining
import Testing

/// The hash that manifests and seals have, against the known vectors of SHA-256.
@Suite struct FileDigestTests {
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
    #expect(FileDigest(of: Array(text.utf8)).hexadecimal == digest)
  }

  @Test func aMillionTimesTheLetterA() {
    #expect(
      FileDigest(of: [UInt8](repeating: 0x61, count: 1_000_000)).hexadecimal
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }

  @Test func aWriterReturnsTheDigestOfItsFile() throws {
    try withTemporaryRun { run in
      var writer = SafetensorsWriter(metadata: ["step": "3"])
      try writer.add("t", (0..<100_000).map(Float.init), shape: [100_000])
      let path = "\(run.path)/t.safetensors"
      let written = try writer.writeDigested(to: path)
      #expect(try SafetensorsFile(path: path).digest() == written)
      #expect(written == FileDigest(of: writer.bytes()))
    }
  }
}
