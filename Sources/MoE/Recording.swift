public import MoECore

/// The values that a recorded forward pass leaves for its backward pass, in storage reused from pass to pass.
///
/// It is not copyable; one recording belongs to one pass at a time. Any number of them, for layers or for parts of
/// a batch, can wait for their backward passes beside one ``Workspace``.
public struct Recording: ~Copyable {
  /// How much of a pass is kept.
  public enum Extent: Sendable {
    /// Every activation the backward pass reads: for M rows M·(2·D + 3·F) values with a gated activation, M·(2·D + 2·F)
    /// without, and the dense branch's.
    case full
    /// The routing alone, O(T·(K + E)) values; the backward pass computes the activations again, to the same bits
    /// (Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*, §3).
    case recompute
  }

  /// How much of a pass is kept.
  public let extent: Extent
  /// What happened to the tokens of the recorded pass.
  public package(set) var record = RoutingRecord()
  /// The pass that was recorded and waits for its backward pass; nil where there is none.
  var pass: RecordedPass?
  /// The way back through the pass, where its gradients of parameters have not been added yet.
  var backward: BackwardPass?
  /// The memory of these values, as far as it is not the workspace's.
  package var routing = RoutingScratch()
  package var experts = TileScratch()
  package var branch = TileScratch()

  /// Makes an empty recording to pass to
  /// ``MoELayer/forward(_:mask:noise:recording:into:workspace:execution:)``.
  public init(_ extent: Extent = .full) { self.extent = extent }

  /// Lets go of a pass, whose memory another one is about to overwrite.
  package mutating func forget() {
    pass = nil
    backward = nil
  }
}

/// The properties of a pass that its backward pass has to share.
package struct PassIdentity: Equatable {
  var configuration: MoEConfiguration
  var precision: Precision
  var instructionSet: InstructionSet
  var tokenCount: Int
}

/// The values of a forward pass, stage by stage.
struct ForwardPass {
  let routes: Routes
  let order: RowOrder
  let gates: BranchGates?
  let activations: LayerTiles
}

/// The activations of a layer's networks.
struct LayerTiles {
  let experts: NetworkTiles
  /// nil where there is no dense branch.
  let branch: NetworkTiles?
}

/// A forward pass that waits for its backward pass.
struct RecordedPass {
  let identity: PassIdentity
  let routes: Routes
  let order: RowOrder
  let gates: BranchGates?
  /// nil where the backward pass computes them again.
  let activations: LayerTiles?
}

/// The values of a backward pass from which the gradients of the parameters are made.
struct BackwardPass {
  let experts: NetworkGradientTiles
  let shared: SharedGradientTiles
}

/// The part of a backward pass that every token takes: the router, the dense branch and its gate.
package struct SharedGradientTiles {
  let router: RouterGradientTiles
  let gate: RouterGradientTiles?
  let branch: NetworkGradientTiles?

  package init(
    routers: (router: RouterGradientTiles, gate: RouterGradientTiles?), branch: NetworkGradientTiles?
  ) {
    router = routers.router
    gate = routers.gate
    self.branch = branch
  }
}

/// The gradients that a backward pass computes in one call.
///
/// Ranks that add gradients of parameters one after another compute the gradient of the input first, all at once.
/// Then each in its turn adds those of the parameters.
package enum BackwardPart: Sendable {
  /// The gradient of the input, and those of the parameters.
  case all
  /// The gradient of the input alone; the rest may follow.
  case input
  /// The gradients of the parameters, from the values of a call for the input.
  case parameters
}
