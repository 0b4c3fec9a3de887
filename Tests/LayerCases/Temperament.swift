import MoECore

/// The character of a random problem: the range of its numbers and the distribution of its tokens over the experts.
public enum Temperament: String, CaseIterable, Sendable {
  /// Activations near 1, and tokens spread over all experts.
  case uniform
  /// Activations near 10⁻¹²: the experts' scores are nearly tied, and outputs are nearly zero.
  case tiny
  /// Activations near 10⁴: one probability is 1 and the others are nearly 0.
  case huge
  /// Activations near 2⁻¹³³, which fp32 holds as denormals.
  case denormal
  /// One expert is the first choice of most tokens.
  case skewed
  /// One expert is the first choice of every token.
  case allToOne
  /// One expert is chosen by no token, unless all experts are chosen.
  case emptyExpert
  /// Experts come in pairs with equal router rows. So the two scores of a pair are exactly equal in any arithmetic that
  /// computes both in the same way, and the expert with the lower index must win.
  case ties

  /// The factor by which normally distributed activations are multiplied.
  var activationScale: Float {
    switch self {
    case .tiny: 1e-12
    case .huge: 1e4
    case .denormal: 0x1p-133
    case .uniform, .skewed, .allToOne, .emptyExpert, .ties: 1
    }
  }

  /// Changes a router so that it distributes tokens as the temperament describes.
  ///
  /// The shifts of the logits are so small that no score underflows in fp32. So the order of the other experts is kept.
  func bend(_ router: inout RouterWeights, using generator: inout SeededGenerator) {
    let experts = router.weight.rows
    let special = Int(generator.next() % UInt64(experts))
    switch self {
    case .uniform, .tiny, .huge, .denormal: break
    case .skewed: router.shiftLogit(of: special, by: 3)
    case .allToOne: router.shiftLogit(of: special, by: 24)
    case .emptyExpert: router.shiftLogit(of: special, by: -24)
    case .ties:
      for odd in stride(from: 1, to: experts, by: 2) { router.copyExpert(odd - 1, to: odd) }
    }
  }
}

extension RouterWeights {
  /// Gives one expert the parameters of another.
  fileprivate mutating func copyExpert(_ source: Int, to target: Int) {
    for column in 0..<weight.columns { weight[target, column] = weight[source, column] }
    if let bias { self.bias![target] = bias[source] }
    if let selectionBias { self.selectionBias![target] = selectionBias[source] }
  }

  /// Adds `shift` to the logits of one expert through the router's bias; makes a bias if the router has none.
  fileprivate mutating func shiftLogit(of expert: Int, by shift: Float) {
    var shifted = bias ?? Array(repeating: 0, count: weight.rows)
    shifted[expert] += shift
    bias = shifted
  }
}
