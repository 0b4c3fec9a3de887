extension Reference.Losses {
  /// Returns the updated bias b + γ·sign(mean count − count): the balance without a loss of DeepSeek-V3 §2.1.2
  /// (γ = 10⁻³). The caller adds up the counts of a global batch and then updates the bias once.
  ///
  /// The sign is that of the integer Σ counts − E·count, so that the comparison is exact for large counts too.
  ///
  /// - Parameters:
  ///   - bias: the selection bias `[E]`, `e_score_correction_bias`.
  ///   - counts: the number of choices of each expert, `[E]`, over all k choices before dropping.
  ///   - rate: the step γ.
  public static func updatedSelectionBias(
    _ bias: [Float], counts: [Int], rate: Float = 0.001
  ) -> [Float] {
    let total = counts.reduce(0, +)
    return zip(bias, counts).map { $0 + rate * Float((total - counts.count * $1).signum()) }
  }
}
