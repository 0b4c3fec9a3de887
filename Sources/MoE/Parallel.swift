internal import CKernels

/// Threads for what is computed in Swift: the same team the kernels use.
package enum Parallel {
  private typealias Task = (Int) -> Void

  /// Calls `body` once for every task in 0..<`count`, on up to as many threads as `execution` has.
  ///
  /// Which thread runs a task is left open: for the same bits with any number of threads a task may depend on
  /// its number alone.
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
}
