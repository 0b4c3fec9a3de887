#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

// The functions of a router that turn logits into scores.

extension Reference {
  /// Returns m + ln Σ exp(logit − m), with m the largest logit, so that no exponential overflows.
  static func logSumExp(_ logits: [Double]) -> Double {
    let largest = logits.max() ?? -.infinity
    guard largest > -.infinity else { return -.infinity }
    return largest + log(logits.reduce(0) { $0 + exp($1 - largest) })
  }

  /// Returns exp(logit − m) / Σ exp(logit − m), with m the largest logit. If every logit is −∞, all results are 0.
  static func softmax(_ logits: [Double]) -> [Double] {
    let largest = logits.max() ?? -.infinity
    guard largest > -.infinity else { return logits.map { _ in 0 } }
    let powers = logits.map { exp($0 - largest) }
    let sum = powers.reduce(0, +)
    return powers.map { $0 / sum }
  }

  /// Returns 1/(1 + e^−x), which is 0 at −∞.
  static func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
}
