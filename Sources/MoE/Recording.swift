public import MoECore

/// The values that a recorded forward pass leaves for its backward pass, in storage reused from pass to pass.
///
/// It is not copyable; one recording belongs to one pass at a time. Any number of recordings, for layers or for parts
/// of a batch, can wait for their backward passes while they share one ``Workspace``.
public struct Recording: ~Copyable {
  /// The part of a pass that is kept.
  public enum Extent: Sendable {
    /// Every activation that the backward pass reads: for M rows M·(2·D + 3·F) values with a gated activation, M·(2·D +
    /// 2·F) values without, and those of the dense branch.
    case full
    /// Only the routing, O(T·(K + E)) values. The backward pass recomputes the activations, with the same bits (Chen et
    /// al. 2016, *Training Deep Nets with Sublinear Memory Cost*, §3).
    case recompute
  }

  /// The part of a pass that is kept.
  public let extent: Extent
  /// The record of the recorded pass's routing.
  public package(set) var record = RoutingRecord()
  /// The recorded pass that waits for its backward pass; nil if there is none.
  var pass: RecordedPass?
  /// The values of the pass's backward pass, until its parameter gradients have been added.
  var backward: BackwardPass?
  /// The part of these values' memory that does not belong to the workspace.
  package var routing = RoutingScratch()
  package var experts = TileScratch()
  package var branch = TileScratch()

  /// Makes an empty recording to pass to
  /// ``MoELayer/forward(_:mask:noise:recording:into:workspace:execution:)``.
  public init(_ extent: Extent = .full) { self.extent = extent }

  /// Forgets the recorded pass, before another pass overwrites its memory.
  package mutating func forget() {
    pass = nil
    backward = nil
  }
}

/// The properties that a backward pass must share with its forward pass.
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
  /// The dense branch's activations; nil without a dense branch.
  let branch: NetworkTiles?
}

/// A forward pass that waits for its backward pass.
struct RecordedPass {
  let identity: PassIdentity
  let routes: Routes
  let order: RowOrder
  let gates: BranchGates?
  /// The activations; nil if the backward pass recomputes them.
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
/// Ranks that add parameter gradients one after another first compute the gradient of the input, all at the same time.
/// Then each rank in turn adds the gradients of the parameters.
package enum BackwardPart: Sendable {
  /// The gradient of the input and the gradients of the parameters.
  case all
  /// Only the gradient of the input; a call for the parameters may follow.
  case input
  /// Only the gradients of the parameters, from the values of the call for the input.
  case parameters
}
