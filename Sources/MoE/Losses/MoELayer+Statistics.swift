public import MoECore

extension MoELayer {
  /// The sums that losses of groups of tokens are made of, from a recorded pass.
  ///
  /// - Parameters:
  ///   - recording: of a pass that has not been gone back through.
  ///   - grouping: the groups.
  ///   - workspace: scratch.
  ///   - execution: as of the forward pass, so that the probabilities have its bits.
  /// - Throws: `MoEError.invalidConfiguration` for a recording without a pass and for sequences of no tokens.
  public func statistics(
    of recording: inout Recording, by grouping: TokenGrouping, workspace: inout Workspace,
    execution: Execution? = nil
  ) throws(MoEError) -> RouterStatistics {
    let execution = if let execution { execution } else { try Execution.automatic() }
    return try statistics(
      of: recording.pass?.routes, recording.record, by: grouping, workspace: &workspace, execution: execution)
  }

  /// The sums that losses of groups of tokens are made of, from the routes of a recorded pass and its record.
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
