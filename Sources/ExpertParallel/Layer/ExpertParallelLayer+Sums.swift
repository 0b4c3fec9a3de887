internal import MoE
internal import MoECore

extension ExpertParallelLayer {
  /// Adds the gradients of this rank's experts; replicas of an expert add theirs up.
  ///
  /// Experts follow one another, so that a rank computes the next while the one before is with its other replicas.
  func addExpertGradients(
    to gradients: MoEGradients, execution: Execution, step: String, workspace: inout ExpertParallelWorkspace
  ) throws {
    let rank = communicator.rank
    let part = rank % placement.tensorParallelSize
    let rows = workspace.kept.dispatch!.rows
    let isReplicated = placement.replicas.map { $0.count > 1 }
    try add(localExperts.map { !isReplicated[$0] }, to: gradients, execution, &workspace)
    var rest: [() throws -> Void] = []
    for expert in 0..<configuration.expertCount where isReplicated[expert] {
      let holders = placement.replicas[expert].map { $0 + part }
      let busy = rows.holders(expert).map { holders.firstIndex(of: $0 + part)! }
      // Every rank counts the operations, also of experts that it does not hold.
      let operations = GradientChain.operationCount(parts: 4, members: busy.count)
      guard let group = communicator.group.group(of: holders, operations: operations) else { continue }
      let local = localExperts.firstIndex(of: expert)!
      let chain = GradientChain(
        gradients.experts.parts(of: local), group: communicator.communicator(over: group), members: busy,
        step: "the gradients of \(step)")
      rest.append(
        try chain.sum(gradientSum) {
          try add(localExperts.map { $0 == expert }, to: gradients, execution, &workspace)
        })
    }
    for complete in rest { try complete() }
  }

  /// Adds the gradients of some of the local experts, slice after slice.
  private func add(
    _ isIncluded: [Bool], to gradients: MoEGradients, _ execution: Execution,
    _ workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) {
    guard isIncluded.contains(true) else { return }
    for (index, slice) in workspace.kept.dispatch!.slices.enumerated() where slice.rowCount > 0 {
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

extension NetworkGradients {
  /// All sums.
  fileprivate var memories: [Memory] { [up, down, upBias, downBias] }
}
