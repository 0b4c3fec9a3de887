internal import MoECore

/// What a pass decided about its tokens, and all a backward pass cannot compute again: O(T·(K + E)).
struct RoutingScratch {
  /// What the router writes: see `Kernels.route`; logits [T, E], biased, where a pass is recorded.
  var expertIDs = Scratch()
  var expertWeights = Scratch()
  var logits = Scratch()
  /// What the permutation writes: see `Kernels.permute`.
  var offsets = Scratch()
  var rowToken = Scratch()
  var rowWeight = Scratch()
  var choiceRow = Scratch()
  /// The dense branch's group of all tokens, and its gate.
  var branchOffsets = Scratch()
  var branchGate = Scratch()
  var branchLogits = Scratch()
  var branchIDs = Scratch()
  var branchWeights = Scratch()
  /// The noise of the router; nil at evaluation.
  var noise: RouterNoise?
}

/// Tiles and rows of one set of networks.
struct TileScratch {
  /// Row tiles before and after the first product, and the rows after the second.
  var rowTiles = Scratch()
  var hiddenTiles = Scratch()
  var rows = Scratch()
  /// Gate and up before the activation, where a pass is recorded.
  var preactivationTiles = Scratch()
}

/// Scratch of a backward pass.
struct BackwardScratch {
  var weightGradients = Scratch()
  var logitGradients = Scratch()
  var logitTiles = Scratch()
  var tokenTiles = Scratch()
  var rowWeights = Scratch()
  var gateGradients = Scratch()
  var products = Scratch()
  var identity = Scratch()
  var branchFactors = Scratch()
  var experts = BackwardTiles()
  var dense = BackwardTiles()
  var offsets = Scratch()
  var probabilityGradients = Scratch()
  var jitteredTokens = Scratch()
}

/// Gradients of the rows of one set of networks.
struct BackwardTiles {
  var outputTiles = Scratch()
  var preactivationTiles = Scratch()
  var rows = Scratch()
}

/// Scratch of a pass, forward or backward, grown by the first pass of a size and reused by the next.
///
/// All layers of a model can share one. It is not copyable, so two tasks cannot compute in the same scratch.
public struct Workspace: ~Copyable {
  /// Of one kernel call at a time.
  var kernel = Scratch()
  /// What only the record of a pass takes from the router and the permutation.
  var margins = Scratch()
  var logSumExp = Scratch()
  var counts = Scratch()
  var mask = Scratch()
  var slots = Scratch()
  var dropped = Scratch()
  /// What a recording may keep; while a recorded pass runs, that recording's.
  var routing = RoutingScratch()
  /// The router's copy of the tokens, where its input is jittered.
  var jitteredTokens = Scratch()
  var experts = TileScratch()
  var dense = TileScratch()
  var backward = BackwardScratch()

  /// Makes an empty workspace; the first pass fills it.
  public init() {}

  /// Exchanges what a recording keeps with what is here: a pass then reads and writes the recording's.
  mutating func exchange(with recording: inout Recording) {
    swap(&routing, &recording.routing)
    guard recording.extent == .full else { return }
    swap(&experts, &recording.experts)
    swap(&dense, &recording.dense)
  }
}
