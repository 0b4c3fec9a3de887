/// The memory of a router's choices and measures: see ``Routes``.
package struct RouterScratch {
  package var expertIDs = Scratch()
  package var weights = Scratch()
  package var gates = Scratch()
  package var slots = Scratch()
  package var logits = Scratch()
  package var margins = Scratch()
  package var logSumExp = Scratch()
  package var sums = Scratch()
  /// Memory of a gate's values.
  package var scores = Scratch()
}

/// Memory of a permutation: see ``RowOrder``.
package struct OrderScratch {
  package var offsets = Scratch()
  package var rowToken = Scratch()
  package var rowWeight = Scratch()
  package var choiceRow = Scratch()
  package var slots = Scratch()
  package var dropped = Scratch()
}

/// The memory of all routing decisions of a pass, O(T·(K + E)). A backward pass cannot recompute them.
package struct RoutingScratch {
  package var router = RouterScratch()
  package var order = OrderScratch()
  package var branchGate = RouterScratch()
}

/// Memory of one set of networks' tiles: see ``NetworkTiles``.
package struct TileScratch {
  package var input = Scratch()
  package var preactivation = Scratch()
  package var hidden = Scratch()
  package var rows = Scratch()
  /// Memory of the one group of a dense branch.
  package var offsets = Scratch()

  package init() {}
}

/// Memory of one set of networks' gradients: see ``NetworkGradientTiles``.
package struct GradientTileScratch {
  package var output = Scratch()
  package var preactivation = Scratch()
  package var rows = Scratch()

  package init() {}
}

/// The memory of a router's backward pass: see ``RouterGradientTiles``.
package struct RouterGradientScratch {
  package var logitGradients = Scratch()
  package var logitTiles = Scratch()
  package var tokenTiles = Scratch()
  package var offsets = Scratch()
  package var probabilityGradients = Scratch()
  package var jitteredTokens = Scratch()
}

/// Memory of a backward pass.
package struct BackwardScratch {
  package var weightGradients = Scratch()
  package var gateGradients = Scratch()
  package var rowWeights = Scratch()
  package var products = Scratch()
  package var identity = Scratch()
  package var branchFactors = Scratch()
  package var router = RouterGradientScratch()
  package var branchGate = RouterGradientScratch()
  package var experts = GradientTileScratch()
  package var branch = GradientTileScratch()
}

/// Memory for one call of a kernel; the next call overwrites it.
package struct CallScratch {
  /// The scratch that the kernel itself asks for.
  package var kernel = Scratch()
  /// The token mask as the router's kernel reads it.
  package var mask = Scratch()
  /// The experts that a plan or a table chose.
  package var assignment = Scratch()
  /// The random keys of choices that claim rows in random order.
  package var keys = Scratch()
  /// The router's copy of the tokens, used if its input is jittered.
  package var jitteredTokens = Scratch()
}

/// Scratch of a pass, forward or backward, grown by the first pass of a size and reused by the next.
///
/// All layers of a model can share one. It is not copyable, so two tasks cannot compute in the same scratch.
public struct Workspace: ~Copyable {
  package var call = CallScratch()
  /// Memory that a recording may keep; while a recorded pass runs, this is the recording's.
  package var routing = RoutingScratch()
  package var experts = TileScratch()
  package var branch = TileScratch()
  package var backward = BackwardScratch()

  /// Makes an empty workspace; the first pass fills it.
  public init() {}

  /// Exchanges the routing memory with that of a recording, so that a pass writes to the recording's memory.
  package mutating func exchange(with recording: inout Recording) {
    swap(&routing, &recording.routing)
    guard recording.extent == .full else { return }
    swap(&experts, &recording.experts)
    swap(&branch, &recording.branch)
  }
}
