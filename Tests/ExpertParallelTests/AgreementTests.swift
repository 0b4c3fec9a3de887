import ExpertParallel
import Testing

@Suite struct AgreementTests {
  /// Returns what each rank's agreement threw, as text; "" where it passed.
  private func complaints(
    ranks: Int, _ facts: @escaping @Sendable (_ rank: Int) -> [SharedFact]
  ) throws -> [String] {
    try LocalCommunicator.run(ranks: ranks) { communicator in
      do {
        try communicator.requireAgreement(on: facts(communicator.rank))
        return ""
      } catch let disagreement as Disagreement {
        return "\(disagreement)"
      }
    }
  }

  private func sentence(_ differences: String) -> String {
    "the ranks were asked for different things: \(differences); expected the same on all ranks"
  }

  @Test(arguments: [1, 2, 5]) func equalFactsPass(ranks: Int) throws {
    let found = try complaints(ranks: ranks) { _ in [SharedFact("--seed", 7), SharedFact("--text", "")] }
    #expect(found == .init(repeating: "", count: ranks))
  }

  @Test func allRanksNameTheFactTheRanksAndTheValues() throws {
    let found = try complaints(ranks: 7) { rank in
      [
        SharedFact("--seed", 7), SharedFact("--dtype", rank == 5 ? "bf16" : "f32"),
        SharedFact("--layer", rank < 2 ? "a" : rank == 3 ? "ü" : "b"),
      ]
    }
    let expected = sentence(
      "--dtype is f32 on ranks 0–4, 6 and bf16 on rank 5; "
        + "--layer is a on ranks 0, 1 and b on ranks 2, 4–6 and ü on rank 3")
    #expect(found == .init(repeating: expected, count: 7))
  }

  /// Ranks with other facts, or more, take part in the same exchange: none of them waits for ever.
  @Test func ranksWithOtherFactsAreNamed() throws {
    let found = try complaints(ranks: 3) { rank in
      switch rank {
      case 0: [SharedFact("the command", "moe train"), SharedFact("--seed", 1), SharedFact("--out", "run")]
      case 1: [SharedFact("the command", "moe train"), SharedFact("--out", "run"), SharedFact("--seed", 1)]
      default: [SharedFact("the command", "moe apply")]
      }
    }
    let expected = sentence(
      "the command is moe train on ranks 0, 1 and moe apply on rank 2; "
        + "--seed is 1 on ranks 0, 1 and not set on rank 2; --out is run on ranks 0, 1 and not set on rank 2")
    #expect(found == .init(repeating: expected, count: 3))
  }
}
