import MoECore
import MoEReference
import TestSupport

#if canImport(Glibc)
  import Glibc
#endif

/// Bounds of the difference between the router's and the oracle's results for one token, and the decisions that
/// rounding may change.
///
/// With l the logits, δ the largest error of a logit, u = 2⁻²⁴ and r = max l − min l, at most 105:
/// - e^(l − max l) has the error of its argument, 2δ and the rounding of a difference, r·u, and 3u of its own.
///   The sum has E − 1 additions. So softmax is within a factor e^±η, η = 2δ + (2r + E + 12)·u, to first order
///   in u, and what is subnormal is within 2⁻¹⁴⁸.
/// - σ moves by at most a factor e^±δ, and by 6u: see ``ActivationBound/sigmoid(_:)``. √ln(1 + e^l) moves by at most a
///   factor e^±δ/2, and by half the 6u of the logarithm and the rounding of the root.
struct RouterBounds {
  let logits: [Double]
  let logitError: Double
  let policy: RoutingPolicy
  /// The kernel's scores: sigmoids or softmax over all experts.
  let scores: [Double]
  /// The compared values, with the selection bias, before the choice of groups.
  private let selection: [Double]
  private let hasSelectionBias: Bool

  init(logits: [Double], logitError: Double, policy: RoutingPolicy, selectionBias: [Float]?) {
    self.policy = policy
    // The product with the factor of the logits is exact: it is a power of two.
    self.logits = logits.map { $0 * Double(policy.logitScale) }
    self.logitError = logitError * Double(policy.logitScale)
    let logits = logits.map { $0 * Double(policy.logitScale) }
    if policy.scoring == .squareRootSoftplus {
      scores = logits.map { (max($0, 0) + log1p(exp(-abs($0)))).squareRoot() }
    } else if policy.weighsSeparately {
      scores = logits.map { 1 / (1 + exp(-$0)) }
    } else {
      let largest = logits.max()!
      let powers = logits.map { exp($0 - largest) }
      let sum = powers.reduce(0, +)
      scores = powers.map { $0 / sum }
    }
    let compared = policy.comparesLogits ? logits : scores
    selection = selectionBias.map { zip(compared, $0).map { $0 + Double($1) } } ?? compared
    hasSelectionBias = selectionBias != nil
  }

  private var u: Double { Tolerance.singleRoundoff }
  private var expertCount: Double { Double(logits.count) }

  /// η.
  var softmaxExponent: Double {
    let finite = logits.filter { $0 > -.infinity }
    let range = min(finite.max()! - finite.min()!, 105)
    return 2 * logitError + (2 * range + expertCount + 12) * u
  }

  /// A factor's distance from 1, of scores and of weights before normalisation.
  var relative: Double {
    // Beyond e^40 the bound says nothing.
    expm1(min(policy.weighsSeparately ? logitError + 8 * u : softmaxExponent, 40))
  }

  /// The largest loss by underflow of a score, or of a weight before normalisation.
  var underflow: Double { policy.weighsSeparately ? 0x1p-127 : 0x1p-148 }

  /// The largest error of a compared score: the error of the score and the rounding of the biased score.
  var selectionError: Double {
    let largest = selection.reduce(0) { $1.isFinite ? max($0, abs($1)) : $0 }
    let own = policy.comparesLogits ? logitError : min(relative, 1) * scores.max()! + underflow
    return own + (hasSelectionBias ? u * largest : 0)
  }

  /// Whether rounding may change the selection of groups: the difference between the last selected group and the best
  /// other group is below twice the error of a group's score, which adds at most two scores.
  var groupsAreAmbiguous: Bool {
    guard let groups = policy.groups, groups.selected < groups.count else { return false }
    let size = logits.count / groups.count
    let values = (0..<groups.count).map { group -> Double in
      let descending = selection[group * size..<(group + 1) * size].sorted(by: >)
      return descending.prefix(groups.score.addends).reduce(0, +)
    }.sorted(by: >)
    let largest = values.reduce(0) { $1.isFinite ? max($0, abs($1)) : $0 }
    let gap = values[groups.selected - 1] - values[groups.selected]
    return selectionError > 0 && !(gap > 4 * selectionError + 2 * u * largest)
  }

  /// Returns whether rounding may change the experts that SparseMixer's threshold admits: (best − l)/max(|l|, best) has
  /// three roundings and the errors of the logits.
  func thresholdIsAmbiguous(chosen: [Int]) -> Bool {
    guard case .sparseMixer(let jitter) = policy.scoring else { return false }
    let threshold = 2 * Double(jitter)
    return chosen.contains { choice in
      let best = logits[choice]
      return best > -.infinity
        && logits.contains { l in
          let size = max(abs(l), best)
          let error = 4 * u * threshold + 4 * logitError / abs(size)
          return !(abs((best - l) / size - threshold) > error) && l != best && l > -.infinity
        }
    }
  }

  /// Returns the error of a weight w = scale·rᵢ/(Σr + term). rᵢ and Σr are within the factor of `relative` and
  /// underflow. The sum adds K roundings, and the products add two. The underflow of the sum counts K times.
  func weightError(_ weight: Double, chosen: [Int]) -> Double {
    let count = Double(chosen.count)
    let scale = abs(Double(policy.scale))
    let sum: Double =
      switch policy.scoring {
      case .softmax, .sigmoid, .sigmoidOfSelected, .squareRootSoftplus:
        chosen.reduce(0) { [scores] in $0 + scores[$1] }
      case .softmaxOverSelected: 1
      case .sparseMixer: 1 / expertCount
      }
    let divisor =
      switch policy.normalization {
      case .none: 1.0
      case .sum(plus: let plus): sum + Double(plus)
      case .sumAtLeast(let floor): max(sum, Double(floor))
      // A norm is at least 1/K of the sum.
      case .norm: sum / count
      }
    let factor = (1 + relative) * (1 + relative) * (1 + Tolerance.gamma(2 * chosen.count + 14)) - 1
    return factor * abs(weight) + scale * (count + 1) * underflow / divisor + 0x1p-149
  }

  /// Returns the error of max l + ln Σ e^(l − max l): δ and η, and the roundings of the logarithm (2 ulp) and of the
  /// sum.
  func logSumExpError(_ value: Double) -> Double {
    let largest = logits.max()!
    return softmaxExponent + 6 * u * (abs(largest) + abs(value - largest)) + u
  }
}

extension RoutingPolicy {
  /// Whether weights and scores depend on the expert's own logit alone; otherwise they are softmaxes.
  var weighsSeparately: Bool {
    scoring == .sigmoid || scoring == .sigmoidOfSelected || scoring == .squareRootSoftplus
  }

  /// Whether logits are compared; otherwise scores are.
  var comparesLogits: Bool {
    scoring != .sigmoid && scoring != .softmax && scoring != .squareRootSoftplus
  }
}
