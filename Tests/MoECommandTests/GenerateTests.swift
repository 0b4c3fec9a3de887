import Foundation
import Testing

@Suite struct GenerateTests {
  @Test func aTextIsContinuedTheSameForASeed() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("run"))
      func generate(_ more: String...) throws -> String {
        let run = try moe(["generate", training.path("run"), "--prompt", "Haus grün "] + more)
        expectSuccess(run)
        #expect(run.output.hasPrefix("Haus grün ") && run.output.hasSuffix("\n"))
        return run.output
      }
      // More than three contexts of 32 bytes.
      let first = try generate("--bytes", "100", "--seed", "3")
      #expect(try generate("--bytes", "100", "--seed", "3", "--threads", "1") == first)
      #expect(try generate("--bytes", "100", "--seed", "4") != first)
      #expect(try generate("--bytes", "0") == "Haus grün \n")
      let greedy = try generate("--bytes", "50", "--temperature", "0", "--seed", "1")
      #expect(try generate("--bytes", "50", "--temperature", "0", "--seed", "2") == greedy)
      #expect(try generate("--bytes", "50", "--top-p", "1e-9", "--temperature", "5") == greedy)
      expectSuccess(try moe("generate", training.path("run"), "--bytes", "5"))
      let long = String(repeating: "water und ", count: 20)
      expectSuccess(try moe("generate", training.path("run"), "--prompt", long, "--bytes", "5"))
    }
  }

  @Test func whatCannotBeGeneratedIsRefused() throws {
    try withTemporaryFolder { folder in
      for (option, value, complaint) in [
        ("--bytes", "-1", "--bytes is -1"), ("--temperature", "-1", "--temperature is -1"),
        ("--temperature", "nan", "--temperature is nan"), ("--top-p", "0", "--top-p is 0"),
        ("--top-p", "1.5", "--top-p is 1.5"),
      ] {
        expectUsageError(try moe("generate", folder.path, "\(option)=\(value)"), saying: complaint)
      }
      expectFailure(try moe("generate", folder.path), saying: [folder.path, "there is no run.json"])
    }
  }
}
