/// The tensors of a family's MoE blocks. Names are relative to the block's prefix.
struct BlockLayout: Sendable {
  var router: RouterLayout
  var experts: ExpertLayout
  var dense: DenseLayout?
}

/// The router's tensors.
struct RouterLayout: Sendable {
  /// `[E, D]`.
  var weight: String
  /// `[E]`, added to the logits.
  var bias: String?
  /// Added to the scores for selection, and its shape: `[E]`, or `[1, E]` where `selectionBiasRows` is 1.
  var selectionBias: String?
  /// Extents of the selection bias before E.
  var selectionBiasRows: [Int] = []
}

/// The names of a network's projections.
struct ProjectionNames: Sendable {
  /// Nil where the activation has no gate.
  var gate: String?
  var up: String
  var down: String

  /// The names of most families.
  static let projections = ProjectionNames(
    gate: "gate_proj.weight", up: "up_proj.weight", down: "down_proj.weight")
  /// The names of Mixtral.
  static let numbered = ProjectionNames(gate: "w1.weight", up: "w3.weight", down: "w2.weight")
}

/// The experts' tensors.
enum ExpertLayout: Sendable {
  /// One tensor per expert and projection, `[F, D]` and `[D, F]`, under `experts.<prefix><index>.`.
  case separate(ProjectionNames, prefix: String = "")
  /// One tensor with the gate and up projections of all experts, and one with all down projections.
  case stacked(StackedLayout)
}

/// Tensors that hold a projection of all experts. The first dimension is the expert.
struct StackedLayout: Sendable {
  var gateUp: String
  var down: String
  var arrangement: Arrangement
  var storage: Storage
  /// `[E, 2F]` in the arrangement of the weights.
  var gateUpBias: String?
  /// `[E, D]`.
  var downBias: String?
}

/// The tensors of the network beside the experts.
struct DenseLayout: Sendable {
  /// The start of the network's names.
  var prefix: String
  var names = ProjectionNames.projections
  /// `[1, D]` for a sigmoid gate.
  var gate: String?
}
