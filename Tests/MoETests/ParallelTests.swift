import CKernels
import Foundation
import MoECore
import Synchronization
import TestSupport
import Testing

/// A call of `moe_parallel_for` runs every task once, on a thread whose number is below the requested number of
/// threads.
@Suite struct ParallelTests {
  /// Counts the runs of every task, and the tasks on a thread that was not requested.
  final class Tally: Sendable {
    let runs: [Counter]
    let strays = Counter()
    let threads: Int32

    final class Counter: Sendable {
      let value = Atomic<Int>(0)
      func add() { value.add(1, ordering: .relaxed) }
    }

    init(count: Int, threads: Int32) {
      runs = (0..<count).map { _ in Counter() }
      self.threads = threads
    }

    var isRight: Bool {
      runs.allSatisfy { $0.value.load(ordering: .relaxed) == 1 }
        && strays.value.load(ordering: .relaxed) == 0
    }
  }

  /// Runs `count` tasks, each of which runs `inner` tasks, and returns whether each task ran once on a requested
  /// thread.
  static func isRight(threads: Int32, count: Int, inner: Int = 0) -> Bool {
    final class Context {
      let tally: Tally
      let inner: Int
      let innerFailures = Tally.Counter()
      init(_ tally: Tally, inner: Int) {
        self.tally = tally
        self.inner = inner
      }
    }
    let context = Context(Tally(count: count, threads: threads), inner: inner)
    unsafe moe_parallel_for(
      threads, Int64(count),
      { context, task, thread in
        let context = unsafe Unmanaged<Context>.fromOpaque(context!).takeUnretainedValue()
        context.tally.runs[Int(task)].add()
        if thread < 0 || thread >= context.tally.threads { context.tally.strays.add() }
        if context.inner > 0 && !ParallelTests.isRight(threads: 3, count: context.inner) {
          context.innerFailures.add()
        }
      }, Unmanaged.passUnretained(context).toOpaque())
    return context.tally.isRight && context.innerFailures.value.load(ordering: .relaxed) == 0
  }

  @Test(arguments: 0..<40 as Range<UInt64>)
  func everyTaskRunsOnce(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<50 {
      let threads = generator.pick([1, 2, 3, 7, 16] as [Int32])
      let count = generator.pick([0, 1, 2, 3, 16, 100])
      let inner = generator.pick([0, 0, 0, 5])
      #expect(
        Self.isRight(threads: threads, count: count, inner: inner), "\(threads) threads, \(count) tasks")
    }
  }

  /// Each caller thread has its own team, which ends with the thread.
  @Test func callersDoNotMeet() async {
    for _ in 0..<10 {
      await withTaskGroup(of: Bool.self) { group in
        for caller in 0..<6 {
          group.addTask {
            await withCheckedContinuation { continuation in
              Thread.detachNewThread {
                let isRight = (0..<100).allSatisfy {
                  Self.isRight(threads: 2 + Int32($0 % 3), count: 40 + caller)
                }
                continuation.resume(returning: isRight)
              }
            }
          }
        }
        for await isRight in group { #expect(isRight) }
      }
    }
  }

  /// A number of threads beyond the limit of a team is not an error.
  @Test func numberOfThreadsMayExceedTheLimit() {
    #expect(Self.isRight(threads: 5000, count: 40))
  }
}
