/// A loss of a batch's routing: its value, to add to the training loss, and its gradients, to pass to
/// ``MoELayer/backward(_:input:recording:losses:into:gradients:workspace:execution:)``.
///
/// The probability in a loss is the softmax over all experts. For a router that scores by sigmoids, it is each sigmoid
/// divided by their sum. Counts are assignments before dropping; the gradient treats them as constants. A masked token
/// is in no sum and no divisor. A loss over no tokens is 0.
public struct RouterLoss: Sendable, Equatable {
  /// The loss, its coefficient included.
  public var value: Double
  /// The loss's contribution to the gradient of the logits.
  public var gradients: RouterLossGradients

  /// Makes a loss.
  public init(value: Double, gradients: RouterLossGradients) {
    self.value = value
    self.gradients = gradients
  }

  /// Returns the sum of two losses over the same batch.
  public static func + (left: RouterLoss, right: RouterLoss) -> RouterLoss {
    RouterLoss(value: left.value + right.value, gradients: left.gradients + right.gradients)
  }
}
