public import MoECore

/// What a recorded forward pass leaves for the backward pass: activations of every stage, reused from pass to
/// pass. It is not copyable; one recording belongs to one pass at a time.
public struct Recording: ~Copyable {
  /// What happened to the tokens of the recorded pass.
  public internal(set) var record = RoutingRecord()
  var workspace = Workspace()
  var backward = BackwardScratch()
  var isRecorded = false

  /// Makes an empty recording to pass to ``MoELayer/forward(_:mask:noise:recording:into:execution:)``.
  public init() {}
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
  var transposedRouter = Scratch()
  var probabilityGradients = Scratch()
  var jitteredTokens = Scratch()
}

/// Gradients of the rows of one set of networks, and its weights transposed.
struct BackwardTiles {
  var outputTiles = Scratch()
  var preactivationTiles = Scratch()
  var rows = Scratch()
  var transposedUp = Scratch()
  var transposedDown = Scratch()
}
