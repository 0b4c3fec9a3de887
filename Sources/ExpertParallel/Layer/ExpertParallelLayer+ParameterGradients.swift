internal import MoE
internal import MoECore

extension ExpertParallelLayer {
  /// Adds the gradients of one slice for the experts that this rank alone holds.
  func addLocalGradients(
    of slice: NetworkGradientTiles, to gradients: MoEGradients, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) {
    try addGradients(
      of: localExperts.map { placement.replicas[$0].count == 1 }, slices: [slice], to: gradients,
      execution: execution, workspace: &workspace)
  }

  /// Adds the gradients of experts that several ranks hold, summed over the replicas. A collective.
  ///
  /// The experts are processed one after another. So a rank computes the next expert while the sums of the expert
  /// before are at its other replicas.
  func addReplicatedGradients(
    of slices: [NetworkGradientTiles], at rows: ExpertRows, to gradients: MoEGradients,
    during activity: String, execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws {
    let shard = communicator.rank % placement.tensorParallelSize
    var completions: [() throws -> Void] = []
    for expert in 0..<configuration.expertCount where placement.replicas[expert].count > 1 {
      let holders = placement.replicas[expert].map { $0 + shard }
      let busy = rows.holders(expert).map { holders.firstIndex(of: $0 + shard)! }
      // Every rank counts the operations, including those of experts that it does not hold.
      let operations = GradientChain.operationCount(parts: NetworkGradients.memoryLimit, members: busy.count)
      guard let group = communicator.group.group(of: holders, operations: operations) else { continue }
      let local = localExperts.firstIndex(of: expert)!
      let chain = GradientChain(
        gradients.experts.parts(of: local), group: communicator.communicator(over: group), members: busy,
        during: "the gradients of \(activity)")
      completions.append(
        try chain.sum(gradientSum) {
          try addGradients(
            of: localExperts.map { $0 == expert }, slices: slices, to: gradients, execution: execution,
            workspace: &workspace)
        })
    }
    for complete in completions { try complete() }
  }

  /// Adds the gradients of some of the local experts, slice after slice.
  ///
  /// - Parameter isIncluded: `[local experts]`: whether an expert's gradients are added.
  private func addGradients(
    of isIncluded: [Bool], slices: [NetworkGradientTiles], to gradients: MoEGradients, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) {
    guard isIncluded.contains(true) else { return }
    for slice in slices where slice.groups.rowCount > 0 {
      try localLayer.experts.addGradients(
        of: slice, only: isIncluded, to: gradients.experts, execution: execution,
        scratch: &workspace.local.call)
    }
  }

  /// Adds the gradients of router, dense branch and gate over all ranks. A collective.
  func addSharedGradients(
    of pass: SharedGradientTiles, in batch: Batch, to gradients: MoEGradients, during activity: String,
    execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws {
    let tokenCounts = batch.tokenCounts
    let chain = GradientChain(
      gradients.sharedMemories.map { ($0, 0..<$0.byteCount) }, group: communicator,
      members: tokenCounts.indices.filter { tokenCounts[$0] > 0 }, during: "the gradients of \(activity)")
    try chain.sum(gradientSum) {
      try localLayer.addSharedGradients(
        pass, to: gradients, execution: execution, workspace: &workspace.local)
    }()
  }
}

extension MoEGradients {
  /// The sums of the parameters that every rank holds.
  fileprivate var sharedMemories: [Memory] {
    [router.panels, router.bias] + (branch?.memories ?? []) + (branchGate.map { [$0.panels, $0.bias] } ?? [])
  }
}
