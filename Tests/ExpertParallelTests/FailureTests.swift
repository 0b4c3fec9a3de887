import ExpertParallel
import Synchronization
import Testing

@Suite struct FailureTests {
  struct OwnError: Error, Equatable { let rank: Int }

  /// The error of each rank's operation, if rank `ranks - 1` behaves differently.
  static func errors(
    ranks: Int, hosts: [Int]? = nil, timeout: Duration = .seconds(60),
    _ body: @escaping @Sendable (LocalCommunicator) throws -> Void
  ) throws -> [CommunicationError?] {
    try LocalCommunicator.run(ranks: ranks, hosts: hosts, timeout: timeout) { communicator in
      do {
        try body(communicator)
        return nil
      } catch {
        return error as? CommunicationError
      }
    }
  }

  @Test(arguments: [2, 3, 5]) func aLateRankIsNamedAtTheDeadline(ranks: Int) throws {
    let failed = Atomic<Int>(0)
    let errors = try Self.errors(ranks: ranks, timeout: .milliseconds(200)) { communicator in
      // The last rank computes until all others have given up.
      if communicator.rank == ranks - 1 {
        while failed.load(ordering: .acquiring) < ranks - 1 {}
        return
      }
      defer { failed.add(1, ordering: .releasing) }
      _ = try communicator.allReduce([Float](repeating: 1, count: 5000), .sum, during: "gradients of step 7")
    }
    let expected = CommunicationError.deadline(
      operation: "all-reduce", during: "gradients of step 7", after: .milliseconds(200), missing: [ranks - 1])
    #expect(errors.dropLast().allSatisfy { $0 == expected }, "\(errors)")
    #expect(
      expected.description == "all-reduce of gradients of step 7: rank \(ranks - 1) missing after 0.200 s")
  }

  @Test func testingAloneMeetsTheDeadlineToo() throws {
    let failed = Atomic<Bool>(false)
    let errors = try Self.errors(ranks: 2, timeout: .milliseconds(100)) { communicator in
      guard communicator.rank == 0 else {
        while !failed.load(ordering: .acquiring) {}
        return
      }
      defer { failed.store(true, ordering: .releasing) }
      let buffer = MessageBuffer(byteCount: 8)
      let request = try communicator.startBroadcast(buffer, root: 1, during: "weights")
      while try !request.test() {}
    }
    #expect(
      errors[0]
        == .deadline(operation: "broadcast", during: "weights", after: .milliseconds(100), missing: [1])
    )
  }

  @Test func theFirstErrorIsRethrownAndTheOthersLearnOfIt() throws {
    let seen = Mutex<[CommunicationError]>([])
    #expect(throws: OwnError(rank: 2)) {
      try LocalCommunicator.run(ranks: 4) { communicator in
        try communicator.barrier(during: "start")
        if communicator.rank == 2 { throw OwnError(rank: 2) }
        do {
          try communicator.barrier(during: "step 3")
        } catch let error as CommunicationError {
          seen.withLock { $0.append(error) }
          throw error
        }
      }
    }
    let errors = seen.withLock { $0 }
    #expect(errors.count == 3)
    for error in errors {
      guard case .rankEnded(let operation, let activity, let ranks, _) = error else {
        Issue.record("\(error)")
        continue
      }
      // A rank that learned of it earlier may have ended by the time another one looks.
      #expect(operation == "barrier" && activity == "step 3" && ranks.contains(2))
    }
  }

  @Test func aRankThatReturnsEarlyIsNamed() throws {
    let errors = try Self.errors(ranks: 3) { communicator in
      if communicator.rank == 1 { return }
      _ = try communicator.allGather([1], during: "counts")
    }
    for rank in [0, 2] {
      guard case .rankEnded("all-gather", "counts", let ranks, _)? = errors[rank] else {
        Issue.record("rank \(rank): \(String(describing: errors[rank]))")
        continue
      }
      #expect(ranks.contains(1))
    }
  }

  /// A rank may end after its last operation: its part in the operation stays.
  @Test func endingAfterTheLastOperationIsNoFailure() throws {
    for _ in 0..<200 {
      let sums = try LocalCommunicator.run(ranks: 4) { try $0.allReduce($0.rank, .sum, during: "last") }
      #expect(sums == [6, 6, 6, 6])
    }
  }

  @Test(arguments: [-4, 4]) func countsThatDifferAreAnError(surplus: Int) throws {
    let errors = try Self.errors(ranks: 2) { communicator in
      let buffer = MessageBuffer(byteCount: 100)
      let count = communicator.rank == 1 ? 20 + surplus : 20
      let sent = BlockLayout(rows: communicator.rank == 1 ? [count, 20] : [20, 20], bytesPerRow: 1)
      try communicator.startAllToAll(
        from: buffer, sent, into: MessageBuffer(byteCount: 100), BlockLayout(rows: [20, 20], bytesPerRow: 1),
        during: "rows"
      ).wait()
      try communicator.barrier(during: "after")
    }
    #expect(
      errors[0]
        == .mismatch(
          operation: "all-to-all", during: "rows", rank: 1,
          "sent \(20 + surplus) bytes, where 20 were expected"
        ))
    #expect(errors[1] != nil)
  }

  @Test func anotherOperationIsAnError() throws {
    let errors = try Self.errors(ranks: 2) { communicator in
      if communicator.rank == 0 {
        try communicator.barrier(during: "a barrier")
      } else {
        _ = try communicator.allGather([Int](), during: "a gather")
      }
    }
    #expect(errors.contains { if case .mismatch = $0 { true } else { false } }, "\(errors)")
  }

  @Test func afterAFailureAllOperationsOfTheRankThrowIt() throws {
    try LocalCommunicator.run(ranks: 2, timeout: .milliseconds(50)) { communicator in
      let part = try #require(try communicator.split(color: 0, during: "both"))
      guard communicator.rank == 0 else { return }
      communicator.timeout = .seconds(60)
      let first = #expect(throws: CommunicationError.self) { try communicator.barrier(during: "first") }
      let second = #expect(throws: CommunicationError.self) { try part.barrier(during: "second") }
      #expect(first == second && first != nil)
    }
  }

  @Test func whatCannotBeDoneIsRefusedAndHarmless() throws {
    try LocalCommunicator.run(ranks: 2) { communicator in
      let buffer = MessageBuffer(byteCount: 8)
      func refuses(
        _ body: () throws(CommunicationError) -> Void, _ location: SourceLocation = #_sourceLocation
      ) {
        do {
          try body()
          Issue.record("not refused", sourceLocation: location)
        } catch {
          if case .invalid = error { return }
          Issue.record("\(error)", sourceLocation: location)
        }
      }
      refuses { () throws(CommunicationError) in
        _ = try communicator.allToAll([1, 2], counts: [1, 2], during: "x")
      }
      refuses { () throws(CommunicationError) in _ = try communicator.allToAll([1], counts: [1], during: "x")
      }
      refuses { () throws(CommunicationError) in _ = try communicator.exchange([1, 2, 3], during: "x") }
      refuses { () throws(CommunicationError) in _ = try communicator.broadcast([1], root: 2, during: "x") }
      refuses { () throws(CommunicationError) in _ = try communicator.split(color: -1, during: "x") }
      refuses { () throws(CommunicationError) in _ = try communicator.allGather([1], counts: [1], during: "x")
      }
      refuses { () throws(CommunicationError) in
        _ = try communicator.reduceScatter([1], counts: [1, 1], .sum, during: "x")
      }
      refuses { () throws(CommunicationError) in
        _ = try communicator.startAllReduce(buffer, of: Float.self, count: 3, .sum, during: "x")
      }
      refuses { () throws(CommunicationError) in
        _ = try communicator.startAllToAll(
          from: buffer, BlockLayout(offsets: [0, 4], counts: [4, 5]), into: buffer,
          BlockLayout(rows: [0, 0], bytesPerRow: 1),
          during: "x")
      }
      let sum = try communicator.allReduce(1, .sum, during: "still works")
      #expect(sum == 2)
    }
  }
}
