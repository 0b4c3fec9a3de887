public import MoECore

extension MoELayer {
  /// Computes the sums from which losses over groups of tokens are made, from a recorded pass.
  ///
  /// - Parameters:
  ///   - recording: the recording of a pass whose backward pass has not run yet.
  ///   - grouping: the groups.
  ///   - workspace: scratch.
  ///   - execution: the execution of the forward pass, so that the probabilities have the same bits.
  /// - Throws: `MoEError.invalidConfiguration` for a recording without a pass and for sequences of no tokens.
  public func statistics(
    of recording: inout Recording, by grouping: TokenGrouping, workspace: inout Workspace,
    execution: Execution? = nil
  ) throws(MoEError) -> RouterStatistics {
    let execution = if let execution { execution } else { try Execution.automatic() }
    return try statistics(
      of: recording.pass?.routes, recording.record, by: grouping, workspace: &workspace, execution: execution)
  }

  /// Computes the sums from which losses over groups of tokens are made, from the routes and the record of a recorded
  /// pass.
  package func statistics(
    of routes: Routes?, _ record: RoutingRecord, by grouping: TokenGrouping, workspace: inout Workspace,
    execution: Execution
  ) throws(MoEError) -> RouterStatistics {
    guard let routes else {
      throw .invalidConfiguration("the recording holds no pass to take statistics of")
    }
    try grouping.validate()
    let ofBatch = record.statistics
    if grouping == .batch { return ofBatch }
    var statistics = try Kernels.statistics(
      of: routes.choices, by: grouping, policy: configuration.routing, execution: execution,
      scratch: &workspace.call)
    statistics.logSumExpSquares = ofBatch.logSumExpSquares
    return statistics
  }
}
