/// A loss of a batch's routing: its value, to add to the training loss, and its gradients, to pass to
/// ``MoELayer/backward(_:input:recording:losses:into:gradients:workspace:execution:)``.
///
/// The probability of a loss is the softmax over all experts, or sigmoids over their sum for a router that scores by
/// sigmoids. Counts are assignments before dropping and constants of the gradient. A masked token is in no sum and no
/// divisor; a loss of no tokens is 0.
public struct RouterLoss: Sendable, Equatable {
  /// The loss, its coefficient included.
  public var value: Double
  /// What it contributes to the gradient of the logits.
  public var gradients: RouterLossGradients

  /// Makes a loss.
  public init(value: Double, gradients: RouterLossGradients) {
    self.value = value
    self.gradients = gradients
  }

  /// Both losses at once; both are over the same batch.
  public static func + (left: RouterLoss, right: RouterLoss) -> RouterLoss {
    RouterLoss(value: left.value + right.value, gradients: left.gradients + right.gradients)
  }
}
