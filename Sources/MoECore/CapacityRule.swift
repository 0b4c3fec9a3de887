/// How many rows an expert accepts from S tokens: the formulas of the systems, which differ.
public enum CapacityRule: Sendable, Equatable {
  /// This many, whatever S is (`expert_capacity` of Switch Transformers on the hub).
  case fixed(Int)
  /// ⌈k·S·numerator/(E·denominator)⌉ in integers, at least `minimum`: nothing is rounded twice.
  case exact(numerator: Int, denominator: Int, minimum: Int)
  /// max(min(S, ⌊S·factor/E⌋), minimum): Switch Transformer in mesh-tensorflow.
  case meshTensorFlow(factor: Double, minimum: Int = 4)
  /// ⌊S·factor/E⌋, `minimum` where that is zero, rounded up to a multiple of 4: GShard and GLaM in lingvo.
  case lingvo(factor: Double, minimum: Int = 4)
  /// max(S·factor/E rounded half to even, 4): flaxformer.
  case flaxformer(factor: Double)
  /// max(⌈fp32(S/E)·fp32(k·factor)⌉, minimum), product and ceiling in single precision: DeepSpeed.
  case deepSpeed(factor: Double, minimum: Int)
  /// ⌈(S·k/E)·factor⌉ in double precision: Megatron-Core.
  case megatron(factor: Double)

  /// The capacity of one expert.
  ///
  /// - Parameters:
  ///   - tokenCount: S, the tokens that compete.
  ///   - expertCount: E.
  ///   - expertsPerToken: k.
  /// - Returns: at most 2^31, which no batch exceeds.
  public func capacity(tokenCount: Int, expertCount: Int, expertsPerToken: Int) -> Int {
    min(
      rows(tokenCount: tokenCount, expertCount: expertCount, expertsPerToken: expertsPerToken), Self.limit)
  }

  private func rows(tokenCount: Int, expertCount: Int, expertsPerToken: Int) -> Int {
    let share = Double(tokenCount) / Double(expertCount)
    switch self {
    case .fixed(let capacity): return capacity
    case .exact(let numerator, let denominator, let minimum):
      let choices = (expertsPerToken * tokenCount).magnitude
      return max(
        Self.ceiling(of: choices, times: numerator.magnitude, over: (expertCount * denominator).magnitude),
        minimum)
    case .meshTensorFlow(let factor, let minimum):
      return max(min(tokenCount, Self.whole(Double(tokenCount) * factor / Double(expertCount))), minimum)
    case .lingvo(let factor, let minimum):
      let capacity = Self.whole(Double(tokenCount) * factor / Double(expertCount))
      return (min(capacity == 0 ? minimum : capacity, Self.limit) + 3) / 4 * 4
    case .flaxformer(let factor):
      let even = (factor * Double(tokenCount) / Double(expertCount)).rounded(.toNearestOrEven)
      return max(Self.whole(even), 4)
    case .deepSpeed(let factor, let minimum):
      let product = Float(share) * Float(Double(expertsPerToken) * factor)
      return max(Self.whole(Double(product.rounded(.up))), minimum)
    case .megatron(let factor):
      let share = Double(tokenCount * expertsPerToken) / Double(expertCount)
      return Self.whole((share * factor).rounded(.up))
    }
  }

  /// A batch has fewer rows than this, so that a capacity beyond it says nothing more.
  private static let limit = 1 << 31

  /// Returns the whole part of a number that may be too large for an integer, and 0 for NaN: no token times an
  /// infinite factor.
  private static func whole(_ value: Double) -> Int { value > 0 ? Int(min(value, Double(limit))) : 0 }

  /// ⌈a·b/c⌉ whatever the size of the product, at most ``limit``.
  private static func ceiling(of a: UInt, times b: UInt, over c: UInt) -> Int {
    let product = a.multipliedFullWidth(by: b)
    guard product.high < c else { return limit }
    let (quotient, remainder) = c.dividingFullWidth(product)
    return Int(min(quotient, UInt(limit) - 1)) + (remainder > 0 ? 1 : 0)
  }

  /// The sentence about a number that the rule cannot have; nil where there is none.
  var complaint: String? {
    switch self {
    case .fixed(let capacity):
      capacity < 0 ? "a capacity of \(capacity) is negative" : nil
    case .exact(let numerator, let denominator, let minimum):
      if numerator <= 0 || denominator <= 0 || minimum < 0 {
        "a capacity factor of \(numerator)/\(denominator) with minimum \(minimum) is not positive"
      } else if denominator > Self.limit {
        "the capacity factor \(numerator)/\(denominator) has a denominator above \(Self.limit)"
      } else {
        nil
      }
    case .meshTensorFlow(let factor, _), .lingvo(let factor, _), .flaxformer(let factor),
      .megatron(let factor), .deepSpeed(let factor, _):
      factor > 0 && factor.isFinite ? nil : "a capacity factor of \(factor) is not positive"
    }
  }
}
