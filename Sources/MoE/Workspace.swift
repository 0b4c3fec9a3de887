package import MoECore

/// What a pass decided about its tokens, and all a backward pass cannot compute again: O(T·(K + E)).
package struct RoutingScratch {
  /// What the router writes: see `Kernels.route`; logits [T, E], biased, where a pass is recorded.
  package var expertIDs = Scratch()
  package var expertWeights = Scratch()
  package var logits = Scratch()
  /// What the permutation writes: see `Kernels.permute`.
  package var offsets = Scratch()
  package var rowToken = Scratch()
  package var rowWeight = Scratch()
  package var choiceRow = Scratch()
  /// The dense branch's group of all tokens, and its gate.
  package var branchOffsets = Scratch()
  package var branchGate = Scratch()
  package var branchLogits = Scratch()
  package var branchIDs = Scratch()
  package var branchWeights = Scratch()
  /// The noise of the router; nil at evaluation.
  package var noise: RouterNoise?
}

/// Tiles and rows of one set of networks.
package struct TileScratch {
  /// Row tiles before and after the first product, and the rows after the second.
  package var rowTiles = Scratch()
  package var hiddenTiles = Scratch()
  package var rows = Scratch()
  /// Gate and up before the activation, where a pass is recorded.
  package var preactivationTiles = Scratch()

  package init() {}
}

/// Scratch of a backward pass.
package struct BackwardScratch {
  package var weightGradients = Scratch()
  package var router = RouterTiles()
  package var branchGate = RouterTiles()
  package var rowWeights = Scratch()
  package var gateGradients = Scratch()
  package var products = Scratch()
  package var identity = Scratch()
  package var branchFactors = Scratch()
  package var experts = BackwardTiles()
  package var dense = BackwardTiles()
  package var copies = RouterCopies()
}

/// What the gradients of a router or of a branch's gate are products of.
package struct RouterTiles {
  package var logitGradients = Scratch()
  package var logitTiles = Scratch()
  package var tokenTiles = Scratch()
  /// One group of all tokens.
  package var offsets = Scratch()
}

/// Copies that one call back through a router makes: the losses' gradients and, with jitter, the tokens.
package struct RouterCopies {
  package var probabilityGradients = Scratch()
  package var jitteredTokens = Scratch()
}

/// Gradients of the rows of one set of networks.
package struct BackwardTiles {
  package var outputTiles = Scratch()
  package var preactivationTiles = Scratch()
  package var rows = Scratch()

  package init() {}
}

/// Scratch of a pass, forward or backward, grown by the first pass of a size and reused by the next.
///
/// All layers of a model can share one. It is not copyable, so two tasks cannot compute in the same scratch.
public struct Workspace: ~Copyable {
  /// Of one kernel call at a time.
  package var kernel = Scratch()
  /// What only the record of a pass takes from the router and the permutation.
  package var margins = Scratch()
  package var logSumExp = Scratch()
  package var counts = Scratch()
  package var mask = Scratch()
  package var slots = Scratch()
  package var dropped = Scratch()
  /// What a recording may keep; while a recorded pass runs, that recording's.
  package var routing = RoutingScratch()
  /// The router's copy of the tokens, where its input is jittered.
  package var jitteredTokens = Scratch()
  package var experts = TileScratch()
  package var dense = TileScratch()
  package var backward = BackwardScratch()

  /// Makes an empty workspace; the first pass fills it.
  public init() {}

  /// Exchanges what a recording keeps with what is here: a pass then reads and writes the recording's.
  package mutating func exchange(with recording: inout Recording) {
    swap(&routing, &recording.routing)
    guard recording.extent == .full else { return }
    swap(&experts, &recording.experts)
    swap(&dense, &recording.dense)
  }
}
