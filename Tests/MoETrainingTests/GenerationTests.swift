import MoE
import MoETraining
import Testing

@Suite struct GenerationTests {
  /// Pieces together are what decoding all bytes at once gives, and no piece waits longer than it must.
  @Test(arguments: 0..<200) func aStreamOfBytesIsTheirText(seed: Int) {
    var generator = SeededGenerator(seed: UInt64(seed))
    let alphabet: [UInt8] = [
      0x41, 0x80, 0xBF, 0xC0, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xE0, 0xED, 0xF0, 0x9F, 0xF4, 0xF5, 0xFF,
    ]
    let bytes = (0..<40).map { _ in alphabet[Int(generator.next() % UInt64(alphabet.count))] }
    var stream = TextStream()
    var text = ""
    for byte in bytes { text += stream.append(byte) }
    text += stream.finish()
    #expect(Array(text.utf8) == Array(String(decoding: bytes, as: UTF8.self).utf8))
  }

  @Test func aCharacterComesWhenItIsWhole() {
    var stream = TextStream()
    let pieces = Array("a€b".utf8).map { stream.append($0) }
    #expect(pieces == ["a", "", "", "€", "b"])
  }

  @Test func drawsFollowTheProbabilities() {
    var logits = [Float](repeating: -30, count: 256)
    (logits[3], logits[7], logits[9]) = (2, 1, 1)
    func counts(_ sampling: Sampling) -> [Int] {
      var random = SeededGenerator(seed: 1)
      var counts = [Int](repeating: 0, count: 256)
      for _ in 0..<4000 { counts[Int(sampling.draw(from: logits, &random))] += 1 }
      return counts
    }
    // e/(e + 2) = 0.576 of them, within five standard deviations.
    let plain = counts(Sampling(temperature: 1))
    #expect(abs(plain[3] - 2304) < 160 && abs(plain[7] - 848) < 130 && abs(plain[9] - 848) < 130)
    let cold = counts(Sampling(temperature: 0.1))
    #expect(cold[3] > 3990)
    #expect(counts(Sampling(temperature: 0))[3] == 4000)
    let nucleus = counts(Sampling(temperature: 1, topP: 0.6))
    #expect(nucleus[3] + nucleus[7] == 4000 && nucleus[7] > 0)
    #expect(counts(Sampling(temperature: 1, topP: 0.5))[3] == 4000)
  }
}
