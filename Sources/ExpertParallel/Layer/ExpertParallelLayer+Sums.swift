package import MoE
internal import MoECore

extension ExpertParallelLayer {
  /// Adds the gradients of this rank's experts; replicas of an expert add theirs up.
  func addExpertGradients(
    to gradients: MoEGradients, execution: Execution, step: String, workspace: inout ExpertParallelWorkspace
  ) throws {
    let dispatch = workspace.kept.dispatch!
    func add(_ workspace: inout ExpertParallelWorkspace) throws(MoEError) {
      unsafe try Kernels.networkGradients(
        part.experts, offsets: workspace.local.routing.offsets.reserve(0, of: Int64.self),
        rowCount: dispatch.order.count, gradients: gradients.experts, execution: execution,
        forward: &workspace.local.experts, backward: &workspace.local.backward.experts,
        scratch: &workspace.local.kernel)
    }
    guard let replicas else { return try add(&workspace) }
    let expert = localExperts[0]
    let rowCount = workspace.kept.rowCounts[expert]
    let members = (0..<replicas.size).filter {
      !placement.share($0, of: expert, rowCount: rowCount).isEmpty
    }
    try Self.sum(
      gradients.experts.memories, over: replicas, members: members, by: gradientSum, step: step
    ) { try add(&workspace) }
  }

  /// Adds the gradients of router, dense branch and gate over all ranks.
  func addSharedGradients(
    tokenCount: Int, to gradients: MoEGradients, execution: Execution, step: String,
    workspace: inout ExpertParallelWorkspace
  ) throws {
    let firstTokens = workspace.kept.firstTokens
    let members = (0..<communicator.size).filter { firstTokens[$0] < firstTokens[$0 + 1] }
    try Self.sum(
      gradients.sharedMemories, over: communicator, members: members, by: gradientSum, step: step
    ) {
      try part.addSharedGradients(
        tokenCount: tokenCount, to: gradients, execution: execution, workspace: &workspace.local)
    }
  }

  /// Adds what `add` gives on each of some ranks of a group, so that all ranks of the group have the sum.
  ///
  /// - Parameters:
  ///   - memories: the sums, the same on all ranks of the group before and after.
  ///   - members: the ranks that have something to add, ascending.
  ///   - step: the label of errors.
  package static func sum(
    _ memories: [Memory], over group: any Communicator, members: [Int], by gradientSum: GradientSum,
    step: String, _ add: () throws -> Void
  ) throws {
    guard let last = members.last else { return }
    switch gradientSum {
    case .exact:
      let buffers = memories.map { unsafe MessageBuffer($0.bytes, of: $0) }
      if group.rank == members[0] { try add() }
      for (before, next) in zip(members, members.dropFirst()) {
        let requests = try buffers.map { buffer in
          let whole = Blocks.same(buffer.byteCount, for: group.size)
          return try group.startAllToAll(
            from: buffer, whole.only { group.rank == before && $0 == next }, into: buffer,
            whole.only { group.rank == next && $0 == before }, step: "the gradients of \(step)")
        }
        for request in requests { try request.wait() }
        if group.rank == next { try add() }
      }
      for buffer in buffers {
        try group.startBroadcast(buffer, root: last, step: "the gradients of \(step)").wait()
      }
    case .reduced:
      let sums = memories.map { MessageBuffer(byteCount: $0.byteCount) }
      for (memory, sum) in zip(memories, sums) {
        unsafe sum.base.copyMemory(from: memory.base, byteCount: memory.byteCount)
        memory.zero()
      }
      if members.contains(group.rank) { try add() }
      for (memory, sum) in zip(memories, sums) {
        let count = memory.byteCount / MemoryLayout<Float>.stride
        try group.startAllReduce(
          unsafe MessageBuffer(memory.bytes, of: memory), of: Float.self, count: count, .sum,
          step: "the gradients of \(step)"
        ).wait()
        let values = unsafe memory.floats
        for index in 0..<count { unsafe values[index] = sum.floats[index] + values[index] }
      }
    }
  }
}

extension Memory {
  fileprivate var bytes: UnsafeMutableRawBufferPointer {
    unsafe UnsafeMutableRawBufferPointer(start: base, count: byteCount)
  }
}

extension NetworkGradients {
  /// All sums.
  fileprivate var memories: [Memory] { [up, down, upBias, downBias] }
}

extension MoEGradients {
  /// The sums of the parameters that every rank holds.
  fileprivate var sharedMemories: [Memory] {
    [router.panels, router.bias] + (branch?.memories ?? []) + (branchGate.map { [$0.panels, $0.bias] } ?? [])
  }
}
