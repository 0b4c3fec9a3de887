/// What a call back through a layer computes.
///
/// Ranks that add gradients of parameters one after another compute the gradient of the input first, all at once, and
/// then, each in its turn, those of the parameters.
package enum BackwardPart: Sendable {
  /// The gradient of the input, and those of the parameters.
  case all
  /// The gradient of the input alone; the rest may follow.
  case input
  /// The gradients of the parameters, from what a call for the input left.
  case parameters
}
