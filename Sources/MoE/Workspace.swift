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
  /// Row tiles before and after the first product, and the rows after the second.
  var rowTiles = Scratch()
  var hiddenTiles = Scratch()
  var rows = Scratch()
  /// The dense branch and its gate.
  var branch = Scratch()
  var branchOffsets = Scratch()
  var branchGate = Scratch()
  var branchIDs = Scratch()
  var branchWeights = Scratch()

  /// Makes an empty workspace; the first pass fills it.
  public init() {}
}
