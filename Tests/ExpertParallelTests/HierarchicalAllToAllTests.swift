import ExpertParallel
import Synchronization
import Testing

@Suite struct HierarchicalAllToAllTests {
  /// Hosts are numbered in the order in which ranks are first on them, in every group.
  @Test func hostsAreThoseOfTheGroup() throws {
    let hosts = try LocalCommunicator.run(ranks: 5, hosts: [9, 4, 9, 4, 1]) { communicator in
      #expect(communicator.group.hosts == [0, 1, 0, 1, 2])
      #expect(communicator.ranksOnThisHost == [2, 2, 2, 2, 1][communicator.rank])
      #expect(communicator.rankOnThisHost == [0, 0, 1, 1, 0][communicator.rank])
      let part = try communicator.split(color: communicator.rank / 3, during: "halves")!
      return part.group.hosts
    }
    #expect(hosts == [[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1], [0, 1]])
    #expect(throws: CommunicationError.self) { try LocalCommunicator.run(ranks: 2, hosts: [0]) { $0.rank } }
  }

  /// A rank that does not come is named by those that wait for it, and by others the one that it holds up.
  @Test func missingRanksAreNamed() throws {
    let size = 6
    let failed = Atomic<Int>(0)
    let errors = try FailureTests.errors(ranks: size, hosts: [0, 0, 1, 1, 2, 2], timeout: .milliseconds(200))
    {
      communicator in
      // The last rank computes until all others have given up.
      if communicator.rank == size - 1 {
        while failed.load(ordering: .acquiring) < size - 1 {}
        return
      }
      defer { failed.add(1, ordering: .releasing) }
      let buffer = MessageBuffer(byteCount: size)
      let blocks = BlockLayout(rows: [Int](repeating: 1, count: size), bytesPerRow: 1)
      try communicator.startHierarchicalAllToAll(
        from: buffer, blocks, into: MessageBuffer(byteCount: size), blocks,
        counts: [Int](repeating: 1, count: size * size), during: "layer 2"
      ).wait()
    }
    for error in errors.dropLast() {
      switch error {
      case .deadline("hierarchical all-to-all", "layer 2", after: _, let missing)?: #expect(!missing.isEmpty)
      // Another one gave up a moment before.
      case .rankEnded("hierarchical all-to-all", "layer 2", let ranks, _)?: #expect(!ranks.isEmpty)
      default: Issue.record("\(String(describing: error))")
      }
    }
    guard case .deadline(_, _, after: _, missing: [5])? = errors[4] else {
      Issue.record("rank 4 reports \(String(describing: errors[4]))")
      return
    }
  }

  /// Counts that are not those of the blocks are refused before anything is sent.
  @Test func countsHaveToBeThoseOfTheBlocks() throws {
    try LocalCommunicator.run(ranks: 2) { communicator in
      let buffer = MessageBuffer(byteCount: 4)
      let blocks = BlockLayout(rows: [2, 2], bytesPerRow: 1)
      for counts in [[2, 2, 2], [1, 1, 1, 1]] {
        do {
          _ = try communicator.startHierarchicalAllToAll(
            from: buffer, blocks, into: MessageBuffer(byteCount: 4), blocks, counts: counts, during: "x")
          Issue.record("\(counts) are not refused")
        } catch CommunicationError.invalid {
        }
      }
    }
  }
}
