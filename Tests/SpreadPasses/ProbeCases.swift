public import LayerCases
import MoECore

extension LayerCase {
  /// The cases that ranks of MPI run: every routing rule, and cases in which each token's first choice is the same
  /// expert.
  public static let ofProbe: [LayerCase] = {
    let random = (0 as UInt64..<60).map { LayerCase(seed: $0).withSampling }
    let allToOne = (500 as UInt64..<506).map { seed in
      var layerCase = LayerCase(seed: seed)
      layerCase.temperament = .allToOne
      layerCase.expertsPerToken = 1
      layerCase.policy.groups = nil
      layerCase.policy.choice.second = .best
      if seed % 2 == 0 { layerCase.expertCount = 1 }
      return layerCase
    }
    return random + allToOne
  }()

  /// Returns the case, with a rule that samples in every fifth case.
  public var withSampling: LayerCase {
    guard seed % 5 == 0 else { return self }
    var layerCase = self
    layerCase.policy.scoring = .sparseMixer(jitter: 0.25)
    layerCase.policy.choice = .best
    layerCase.policy.groups = nil
    layerCase.hasSelectionBias = false
    return layerCase
  }
}
