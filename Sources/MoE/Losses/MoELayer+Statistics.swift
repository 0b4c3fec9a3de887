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
    guard recording.pass != nil else {
      throw .invalidConfiguration("the recording holds no pass to take statistics of")
    }
    try grouping.validate()
    var statistics = recording.record.statistics
    if grouping == .batch { return statistics }
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    let squares = statistics.logSumExpSquares
    statistics = try Kernels.statistics(
      grouping, tokenCount: recording.record.tokenCount, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken, policy: configuration.routing, execution: execution,
      workspace: &workspace)
    statistics.logSumExpSquares = squares
    return statistics
  }
}
