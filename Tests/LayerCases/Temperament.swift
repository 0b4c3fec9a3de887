import MoECore

/// The character of a random problem: where the numbers lie and where the tokens go.
public enum Temperament: String, CaseIterable, Sendable {
  /// Activations near 1, tokens spread over the experts.
  case uniform
  /// Activations near 10⁻¹²: routes are nearly tied, outputs nearly zero.
  case tiny
  /// Activations near 10⁴: one probability is 1 and the others are nearly 0.
  case huge
  /// Activations near 2⁻¹³³, which fp32 holds as denormals.
  case denormal
  /// One expert is the best of most tokens.
  case skewed
  /// One expert is the first choice of every token.
  case allToOne
  /// One expert is chosen by no token, unless all experts are chosen.
  case emptyExpert
  /// Experts in pairs with equal router rows, so that each pair is tied exactly in any arithmetic that
  /// computes both in the same way; a lower index has to win.
  case ties

  /// What normal activations are multiplied by.
  var activationScale: Float {
    switch self {
    case .tiny: 1e-12
    case .huge: 1e4
    case .denormal: 0x1p-133
    case .uniform, .skewed, .allToOne, .emptyExpert, .ties: 1
    }
  }

  /// Bends a router so that it routes as the temperament says.
  ///
  /// The steps are small enough that no score of fp32 underflows: the order of the other experts is kept.
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

  /// Adds to the logits of one expert through the bias, which it makes where there is none.
  fileprivate mutating func shiftLogit(of expert: Int, by shift: Float) {
    var shifted = bias ?? Array(repeating: 0, count: weight.rows)
    shifted[expert] += shift
    bias = shifted
  }
}
