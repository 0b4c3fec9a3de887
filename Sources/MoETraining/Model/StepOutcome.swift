internal import MoE

/// The results of a training step, beside the gradients.
public struct StepOutcome: Sendable {
  /// Mean cross-entropy in nats per token, without auxiliary losses.
  public var loss: Double
  /// The sum of the routers' losses over all layers, coefficients included.
  public var auxiliaryLoss: Double
  /// One entry per Mixture-of-Experts layer.
  public var layers: [LayerOutcome]
  /// The seconds of each stage.
  public var stageSeconds: [Stage: Double]
}

/// A part of a step.
public enum Stage: String, Sendable, CaseIterable, Codable {
  case attention
  case feedForward = "feed_forward"
  case moe, head, optimizer, data
  /// Waiting for other ranks, in any part of the pass. With one rank this stage does not exist.
  case communication
}

/// How a batch was routed in one layer.
public struct LayerOutcome: Sendable {
  /// The layer's index in the model.
  public var layer: Int
  /// `[E]`: the number of choices of each expert before dropping.
  public var load: [Int64]
  /// The number of choices that were dropped.
  public var dropped: Int
  /// The load-balance loss, coefficient included; 0 in an evaluation.
  public var balanceLoss: Double
  /// The z-loss, coefficient included; 0 in an evaluation.
  public var zLoss: Double
}

/// The losses and routes of held-out text.
public struct Evaluation: Sendable {
  /// The cross-entropy of each token, in nats.
  public var losses: [Float]
  /// The first choice of each token in each Mixture-of-Experts layer; −1 where the choice was dropped.
  public var routes: [(layer: Int, firstChoices: [Int32])]
  /// How the text was routed.
  public var layers: [LayerOutcome]
}
