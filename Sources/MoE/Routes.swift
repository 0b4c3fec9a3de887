package import MoECore

/// The choices that a router makes for T tokens.
package struct RouterChoices {
  package let tokenCount: Int
  package let expertCount: Int
  package let expertsPerToken: Int
  /// `[T, K]`: each token's experts, best first; −1 for a masked token, and below −1 for a second expert that the rule
  /// does not take.
  package let expertIDs: MemoryView<Int32>
  /// `[T, K]`: their weights. The permutation sets those of dropped choices to 0.
  package let weights: MemoryView<Float>
  /// `[T, K]`: the scores of the chosen experts before they are normalised; nil if the order of dropping does not need
  /// them.
  package let gates: MemoryView<Float>?
  /// `[T, K]`: the slots, where experts choose tokens; nil where the permutation makes them.
  var slots: MemoryView<Int32>?
  /// `[T, E]`: the logits with their bias, from which the backward pass and the statistics are computed; nil if not
  /// recorded.
  package let logits: MemoryView<Float>?
  /// The noise that the router applied; nil at evaluation.
  package let noise: RouterNoise?
}

/// The choices of a layer's router, and the measures of its scores.
package struct Routes {
  package let choices: RouterChoices
  /// `[T]`: the selection score of the last chosen expert minus that of the best expert that was not chosen.
  let margins: MemoryView<Float>
  /// `[T]`: ln Σ exp(logit).
  let logSumExp: MemoryView<Float>
  /// `[3, E]`: choices, first choices, and sums of probabilities in units of 2⁻³⁰.
  let sums: MemoryView<Int64>
}

/// The gates of a dense branch for T tokens.
package struct BranchGates {
  /// The gate as a router that chooses all of its columns.
  package let choices: RouterChoices
  /// `[T, columns]`: the gates. A single column multiplies the branch. With two columns, the first multiplies the
  /// experts' sum, the second the branch.
  package let values: MemoryView<Float>

  package var columns: Int { choices.expertCount }

  /// Returns the factor of a token's experts' sum.
  func ofExperts(_ token: Int) -> Float { columns == 2 ? values[token * 2] : 1 }
  /// Returns the factor of the branch's output for a token.
  func ofBranch(_ token: Int) -> Float { values[token * columns + columns - 1] }
}
