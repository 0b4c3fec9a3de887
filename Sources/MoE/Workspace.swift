internal import MoECore

/// Tiles and rows of one set of networks.
struct TileScratch {
  /// Row tiles before and after the first product, and the rows after the second.
  var rowTiles = Scratch()
  var hiddenTiles = Scratch()
  var rows = Scratch()
  /// Gate and up before the activation, where a pass is recorded.
  var preactivationTiles = Scratch()
}

/// Scratch of a forward pass, grown by the first pass of a size and reused by the next.
///
/// It is not copyable, so two tasks cannot compute in the same scratch.
public struct Workspace: ~Copyable {
  /// Of one kernel call at a time.
  var kernel = Scratch()
  /// What the router writes: see `Kernels.route`.
  var expertIDs = Scratch()
  var expertWeights = Scratch()
  var margins = Scratch()
  var logSumExp = Scratch()
  var counts = Scratch()
  var mask = Scratch()
  /// What the permutation writes: see `Kernels.permute`.
  var offsets = Scratch()
  var rowToken = Scratch()
  var rowWeight = Scratch()
  var choiceRow = Scratch()
  var slots = Scratch()
  var dropped = Scratch()
  /// The noise of the router's next pass, and its copy of the tokens with it; nil for evaluation.
  var noise: RouterNoise?
  var jitteredTokens = Scratch()
  /// What the router also writes when a pass is recorded: the biased logits [T, E].
  var logits = Scratch()
  /// The experts' tiles and the dense branch's.
  var experts = TileScratch()
  var dense = TileScratch()
  var branchOffsets = Scratch()
  var branchGate = Scratch()
  var branchLogits = Scratch()
  var branchIDs = Scratch()
  var branchWeights = Scratch()

  /// Makes an empty workspace; the first pass fills it.
  public init() {}
}
