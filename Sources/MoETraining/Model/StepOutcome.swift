internal import MoE

/// What a training step computed beside gradients.
public struct StepOutcome: Sendable {
  /// Mean cross-entropy in nats per token, without auxiliary losses.
  public var loss: Double
  /// The routers' losses, coefficients included, over all layers.
  public var auxiliaryLoss: Double
  /// One entry a Mixture-of-Experts layer.
  public var layers: [LayerOutcome]
  /// Where the time went.
  public var stageSeconds: [Stage: Double]
}

/// A part of a step.
public enum Stage: String, Sendable, CaseIterable, Codable {
  case attention
  case feedForward = "feed_forward"
  case moe, head, optimizer, data
  /// Waiting for other ranks, wherever in the pass; where there is one rank, there is no such stage.
  case communication
}

/// How a batch was routed in one layer.
public struct LayerOutcome: Sendable {
  /// The layer's index in the model.
  public var layer: Int
  /// `[E]`: choices of each expert before dropping.
  public var load: [Int64]
  /// Choices that were dropped.
  public var dropped: Int
  /// The load-balance loss, coefficient included; 0 in an evaluation.
  public var balanceLoss: Double
  /// The z-loss, coefficient included; 0 in an evaluation.
  public var zLoss: Double
}

/// What a model makes of held-out text.
public struct Evaluation: Sendable {
  /// Cross-entropy of each token in nats.
  public var losses: [Float]
  /// Each Mixture-of-Experts layer's first choice of each token; −1 where it was dropped.
  public var routes: [(layer: Int, firstChoices: [Int32])]
  /// How the text was routed.
  public var layers: [LayerOutcome]
}
