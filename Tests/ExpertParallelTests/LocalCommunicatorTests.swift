import ExpertParallel
import MoE
import Synchronization
import Testing

@Suite struct LocalCommunicatorTests {
  @Test func resultsComeInOrderOfRank() throws {
    #expect(try LocalCommunicator.run(ranks: 5) { $0.rank * $0.size } == [0, 5, 10, 15, 20])
  }

  @Test func nobodyLeavesABarrierBeforeAllHaveEntered() throws {
    let entered = Atomic<Int>(0)
    try LocalCommunicator.run(ranks: 6) { communicator in
      for round in 1...50 {
        entered.add(1, ordering: .sequentiallyConsistent)
        try communicator.barrier(during: "round \(round)")
        #expect(entered.load(ordering: .sequentiallyConsistent) >= 6 * round)
      }
    }
  }

  @Test func aRequestThatIsLetGoCompletes() throws {
    try LocalCommunicator.run(ranks: 3) { communicator in
      let result = MessageBuffer([Double(communicator.rank + 1)])
      _ = try communicator.startAllReduce(result, of: Double.self, count: 1, .sum, during: "forgotten")
      // Entering a barrier is no promise for the operation before it, a second one is: each waits for its requests.
      try communicator.barrier(during: "first")
      try communicator.barrier(during: "second")
      #expect(result.elements(of: Double.self) == [6])
    }
  }

  @Test func pollingAloneCompletesARequest() throws {
    try LocalCommunicator.run(ranks: 3) { communicator in
      let buffer = MessageBuffer([Int](repeating: communicator.rank, count: 4000))
      let request = try communicator.startAllReduce(buffer, of: Int.self, count: 4000, .sum, during: "polled")
      while !request.isComplete { communicator.poll() }
      #expect(buffer.elements(of: Int.self) == [Int](repeating: 3, count: 4000))
      try request.wait(timeout: .zero)
    }
  }

  /// A rank is woken each time half of the ranks that it misses have come (of 31 at 16, 8, 4, 2 and 1 more), and once when
  /// all others have copied its block; not once per rank. The end of a rank wakes all others.
  @Test func ranksWakeEachOtherRarely() throws {
    let (ranks, rounds) = (32, 20)
    let events = try LocalCommunicator.run(ranks: ranks) { communicator in
      for round in 0..<rounds { try communicator.barrier(during: "round \(round)") }
      return communicator.eventCount
    }
    #expect(events.allSatisfy { $0 <= rounds * (5 + 1) + ranks - 1 }, "\(events)")
  }

  @Test func ranksShareTheThreads() throws {
    for (threads, shares) in [(8, [2, 3, 3]), (2, [1, 1, 1]), (1, [1, 1, 1]), (3, [1, 1, 1])] {
      let execution = try Execution(threadCount: threads)
      #expect(
        try LocalCommunicator.run(ranks: 3) { try $0.share(of: execution).threadCount } == shares)
    }
  }

  @Test func memoryOfAnOwnerIsUsedInPlace() throws {
    @safe final class Floats: Sendable {
      nonisolated(unsafe) let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: 4)
      deinit { unsafe values.deallocate() }
    }
    let sums = try LocalCommunicator.run(ranks: 2) { communicator in
      let floats = Floats()
      unsafe floats.values.initialize(repeating: Float(communicator.rank) + 0.5)
      let buffer = unsafe MessageBuffer(UnsafeMutableRawBufferPointer(floats.values), of: floats)
      try communicator.startAllReduce(buffer, of: Float.self, count: 4, .sum, during: "in place").wait()
      return unsafe Array(floats.values)
    }
    #expect(sums == [[2, 2, 2, 2], [2, 2, 2, 2]])
  }

  @Test func aNumberOfRanksBelowOneIsRefused() {
    #expect(throws: CommunicationError.self) { try LocalCommunicator.run(ranks: 0) { $0.rank } }
  }
}
