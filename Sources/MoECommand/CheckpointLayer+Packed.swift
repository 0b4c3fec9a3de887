import Foundation
import MoE
import MoECheckpoints

extension CheckpointLayer {
  /// The block packed, with progress on a terminal's stderr: what `apply` runs and `check --fixtures` judges.
  func packed(_ precision: Precision, _ execution: Execution) throws -> MoELayer {
    try MoELayer(
      configuration, weights: ProgressingSource(source: self, count: configuration.expertCount),
      precision: precision, execution: execution)
  }
}

/// A source that tells on a terminal how many experts have been packed, once that takes longer than a moment.
private struct ProgressingSource<Source: MoEWeightSource>: MoEWeightSource {
  let source: Source
  let count: Int
  let start = Date()
  let isShown = isatty(STDERR_FILENO) == 1

  func router() throws -> RouterWeights { try source.router() }
  func denseBranch() throws -> FeedForwardWeights { try source.denseBranch() }
  func denseBranchGate() throws -> BranchGateWeights { try source.denseBranchGate() }

  func expert(_ index: Int) throws -> FeedForwardWeights {
    if isShown, Date().timeIntervalSince(start) > 0.5 {
      let line = "\rpacking expert \(index + 1) of \(count)" + (index + 1 == count ? "\n" : "")
      FileHandle.standardError.write(Data(line.utf8))
    }
    return try source.expert(index)
  }
}
