extension Reference.Losses {
  /// b + γ·sign(mean count − count): the balance without a loss of DeepSeek-V3 §2.1.2 (γ = 10⁻³), once for each
  /// global batch, whose counts are added up before.
  ///
  /// The sign is that of the integer Σ counts − E·count, so that no count is too large to be compared.
  ///
  /// - Parameters:
  ///   - bias: `[E]`, `e_score_correction_bias`.
  ///   - counts: `[E]`, of all k choices before dropping.
  ///   - rate: γ.
  public static func updatedSelectionBias(
    _ bias: [Float], counts: [Int], rate: Float = 0.001
  ) -> [Float] {
    let total = counts.reduce(0, +)
    return zip(bias, counts).map { $0 + rate * Float((total - counts.count * $1).signum()) }
  }
}
