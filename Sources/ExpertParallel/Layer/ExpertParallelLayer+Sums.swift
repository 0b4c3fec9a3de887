internal import MoE
internal import MoECore

extension ExpertParallelLayer {
  /// Adds the gradients of a slice for the experts that this rank alone holds.
  func addOwnGradients(
    ofSlice index: Int, to gradients: MoEGradients, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) {
    try add(
      localExperts.map { placement.replicas[$0].count == 1 }, slices: index..<index + 1, to: gradients,
      execution,
      &workspace)
  }

  /// Adds the gradients of experts that several ranks hold; replicas add theirs up.
  ///
  /// Experts follow one another, so that a rank computes the next while the one before is with its other replicas.
  func addReplicatedGradients(
    to gradients: MoEGradients, execution: Execution, step: String, workspace: inout ExpertParallelWorkspace
  ) throws {
    let part = communicator.rank % placement.tensorParallelSize
    let dispatch = workspace.kept.dispatch!
    var rest: [() throws -> Void] = []
    for expert in 0..<configuration.expertCount where placement.replicas[expert].count > 1 {
      let holders = placement.replicas[expert].map { $0 + part }
      let busy = dispatch.rows.holders(expert).map { holders.firstIndex(of: $0 + part)! }
      // Every rank counts the operations, also of experts that it does not hold.
      let operations = GradientChain.operationCount(parts: NetworkGradients.memoryLimit, members: busy.count)
      guard let group = communicator.group.group(of: holders, operations: operations) else { continue }
      let local = localExperts.firstIndex(of: expert)!
      let chain = GradientChain(
        gradients.experts.parts(of: local), group: communicator.communicator(over: group), members: busy,
        step: "the gradients of \(step)")
      rest.append(
        try chain.sum(gradientSum) {
          // What the replica before has handed on travels beside this.
          try Parallel.polling({ communicator.poll() }) {
            try add(
              localExperts.map { $0 == expert }, slices: dispatch.slices.indices, to: gradients, execution,
              &workspace)
          }
        })
    }
    for complete in rest { try complete() }
  }

  /// Adds the gradients of some of the local experts, slice after slice.
  private func add(
    _ isIncluded: [Bool], slices: Range<Int>, to gradients: MoEGradients, _ execution: Execution,
    _ workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) {
    guard isIncluded.contains(true) else { return }
    for index in slices {
      let slice = workspace.kept.dispatch!.slices[index]
      if slice.rowCount == 0 { continue }
      unsafe try Kernels.networkGradients(
        part.experts, only: isIncluded, offsets: slice.offsets, rowCount: slice.rowCount,
        gradients: gradients.experts, execution: execution, forward: &workspace.tiles[index],
        backward: &workspace.backwardTiles[index], scratch: &workspace.local.kernel)
    }
  }

  /// Adds the gradients of router, dense branch and gate over all ranks.
  func addSharedGradients(
    tokenCount: Int, to gradients: MoEGradients, execution: Execution, step: String,
    workspace: inout ExpertParallelWorkspace
  ) throws {
    let firstTokens = workspace.kept.firstTokens
    let members = (0..<communicator.size).filter { firstTokens[$0] < firstTokens[$0 + 1] }
    let chain = GradientChain(
      gradients.sharedMemories.map { ($0, 0..<$0.byteCount) }, group: communicator, members: members,
      step: "the gradients of \(step)")
    try chain.sum(gradientSum) {
      try part.addSharedGradients(
        tokenCount: tokenCount, to: gradients, execution: execution, workspace: &workspace.local)
    }()
  }
}

extension MoEGradients {
  /// The sums of the parameters that every rank holds.
  fileprivate var sharedMemories: [Memory] {
    [router.panels, router.bias] + (branch?.memories ?? []) + (branchGate.map { [$0.panels, $0.bias] } ?? [])
  }
}
