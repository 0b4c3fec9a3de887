internal import CKernels

/// Threads for computations in Swift, from the same team that the kernels use.
package enum Parallel {
  private typealias Task = (Int) -> Void

  /// Calls `body` once for every task in 0..<`count`, on up to as many threads as `execution` has.
  ///
  /// Any thread may run a task. To get the same bits with any number of threads, a task may depend only on its number.
  package static func forEach(_ count: Int, _ execution: Execution, _ body: (Int) -> Void) {
    withoutActuallyEscaping(body) { body in
      unsafe withUnsafePointer(to: body as Task) { task in
        unsafe moe_parallel_for(
          Int32(execution.threadCount), Int64(count),
          { context, task, _ in unsafe context!.assumingMemoryBound(to: Task.self).pointee(Int(task)) },
          UnsafeMutableRawPointer(mutating: task))
      }
    }
  }

  private typealias Poll = () -> Void

  /// Runs `body`, and calls `poll` from this thread about every tenth of a millisecond while `body` computes in
  /// parallel.
  ///
  /// - Parameter poll: the function to call; it must not compute in parallel itself.
  package static func polling<Result>(_ poll: () -> Void, during body: () throws -> Result) rethrows -> Result
  {
    try withoutActuallyEscaping(poll) { poll in
      unsafe try withUnsafePointer(to: poll as Poll) { poll in
        unsafe moe_set_poll(
          { context in unsafe context!.assumingMemoryBound(to: Poll.self).pointee() },
          UnsafeMutableRawPointer(mutating: poll), 100_000)
        defer { moe_set_poll(nil, nil, 0) }
        return try body()
      }
    }
  }
}
