import ExpertParallel
import MoE
import MoECheckpoints
import MoETraining
import Testing

@Suite struct RedistributionTests {
  /// A placement of eight experts with replicas.
  private func placement(ranks: Int, _ generator: inout SeededGenerator) throws -> ExpertPlacement {
    var experts: [Set<Int>] = Array(repeating: [], count: ranks)
    for expert in 0..<8 { experts[Int(generator.next() % UInt64(ranks))].insert(expert) }
    for rank in 0..<ranks {
      for _ in 0..<1 + generator.next() % 2 { experts[rank].insert(Int(generator.next() % 8)) }
    }
    return try ExpertPlacement(expertCount: 8, experts: experts.map(Array.init))
  }

  @Test(arguments: 0..<24 as Range<UInt64>) func anyPlacementBecomesAnyOther(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let ranks = 1 + Int(seed % 6)
    let (old, new) = (try placement(ranks: ranks, &generator), try placement(ranks: ranks, &generator))
    let received = try LocalCommunicator.run(ranks: ranks) { communicator in
      let held = HeldMatrices(rank: communicator.rank, of: old, seed: seed)
      let wanted = HeldMatrices(rank: communicator.rank, of: new, seed: nil)
      let bytes = try redistribute(
        from: held.checkpoint.entries, to: wanted.checkpoint.entries, over: communicator)
      #expect(wanted.matrices == HeldMatrices(rank: communicator.rank, of: new, seed: seed).matrices)
      #expect(held.matrices == HeldMatrices(rank: communicator.rank, of: old, seed: seed).matrices)
      return bytes
    }
    // Six matrices of 240 floats an expert, and nothing that is there already.
    for rank in 0..<ranks {
      let moved = Set(new.experts[rank]).subtracting(old.experts[rank]).count
      #expect(received[rank] == moved * 6 * 240 * 4)
    }
  }

  @Test func whatCannotBeMovedIsNamedOnAllRanks() throws {
    func errors(rank: Int, _ name: String, _ shape: [Int]) throws -> Set<String> {
      Set(
        try LocalCommunicator.run(ranks: 3) { communicator in
          let held = HeldMatrices(rank: communicator.rank, of: RunFolder.placement(3), seed: 1)
          let wish = CheckpointEntry(
            name: name, shape: shape, read: { Matrix(rows: 0, columns: 0) }, write: { _ in })
          do {
            try redistribute(
              from: held.checkpoint.entries, to: communicator.rank == rank ? [wish] : [], over: communicator)
          } catch let error as CheckpointError {
            return error.description
          }
          return ""
        })
    }
    #expect(try errors(rank: 1, "more", [1, 2]) == ["rank 1: wants tensor “more”, which no rank has"])
    #expect(
      try errors(rank: 2, "norm", [2, 6])
        == ["rank 2: wants tensor “norm” in shape [2, 6], but rank 0 has it in [1, 12]"])
  }
}
