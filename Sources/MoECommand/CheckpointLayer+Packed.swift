import Foundation
import MoE
import MoECheckpoints

extension CheckpointLayer {
  /// Packs the weights, and shows progress where the standard error is a terminal. `apply` and `check --fixtures` run the
  /// layer that it returns.
  func packed(_ precision: Precision, _ execution: Execution) throws -> MoELayer {
    try MoELayer(
      configuration, weights: ProgressingSource(source: self, count: configuration.expertCount),
      precision: precision, execution: execution)
  }
}

/// A source that shows how many experts have been packed, once that takes longer than half a second.
private struct ProgressingSource<Source: MoEWeightSource>: MoEWeightSource {
  let source: Source
  let count: Int
  let start = Date()
  let progress = ProgressLine()

  func router() throws -> RouterWeights { try source.router() }
  func denseBranch() throws -> FeedForwardWeights { try source.denseBranch() }
  func denseBranchGate() throws -> BranchGateWeights { try source.denseBranchGate() }

  func expert(_ index: Int) throws -> FeedForwardWeights {
    if Date().timeIntervalSince(start) > 0.5 {
      if index + 1 < count {
        progress.show(["\(index + 1)/\(count) experts packed"])
      } else {
        progress.clear()
      }
    }
    return try source.expert(index)
  }
}
