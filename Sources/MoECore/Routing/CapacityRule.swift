/// The formula for the number of rows that an expert accepts from S tokens. Each published system has its own.
public enum CapacityRule: Sendable, Equatable {
  /// No limit: nothing is dropped, and slots are in the order of priority.
  case unlimited
  /// A constant number that does not depend on S (`expert_capacity` of Switch Transformers on the hub).
  case fixed(Int)
  /// ⌈k·S·numerator/(E·denominator)⌉ in integer arithmetic, at least `minimum`; it rounds only once.
  case exact(numerator: Int, denominator: Int, minimum: Int)
  /// max(min(S, ⌊S·factor/E⌋), minimum): Switch Transformer in mesh-tensorflow.
  case meshTensorFlow(factor: Double, minimum: Int = 4)
  /// ⌊S·factor/E⌋, or `minimum` if that is zero, then rounded up to a multiple of 4: GShard and GLaM in lingvo.
  case lingvo(factor: Double, minimum: Int = 4)
  /// max(S·factor/E rounded half to even, minimum): flaxformer.
  case flaxformer(factor: Double, minimum: Int = 4)
  /// max(⌈fp32(S/E)·fp32(k·factor)⌉, minimum), product and ceiling in single precision: DeepSpeed.
  case deepSpeed(factor: Double, minimum: Int)
  /// ⌈(S·k/E)·factor⌉ in double precision: Megatron-Core.
  case megatron(factor: Double)
  /// k·⌊factor·⌈S/E⌉⌋: Tutel.
  case tutel(factor: Double)
  /// ⌊factor·(k·S/E)⌋, and no limit where that is 0: MegaBlocks.
  case megaBlocks(factor: Double)
  /// ⌈factor·S/E⌉: the Switch gate of FastMoE.
  case fastMoESwitch(factor: Double)
  /// ⌊⌈factor·S⌉·k/E⌋: the GShard gate of FastMoE.
  case fastMoEGShard(factor: Double)
  /// ⌈S·k·factor/E⌉, then up to a multiple of 4: V-MoE.
  case vmoe(factor: Double)
  /// ⌈factor·S⌉: NLLB-MoE at evaluation (`moe_eval_capacity_token_fraction`).
  case nllb(fraction: Double)

  /// Returns the capacity of one expert.
  ///
  /// - Parameters:
  ///   - tokenCount: S, the number of tokens that compete.
  ///   - expertCount: E, the number of experts.
  ///   - expertsPerToken: k, the number of experts per token.
  /// - Returns: the number of rows, at most 2^31, which no batch exceeds.
  public func capacity(tokenCount: Int, expertCount: Int, expertsPerToken: Int) -> Int {
    min(
      rows(tokenCount: tokenCount, expertCount: expertCount, expertsPerToken: expertsPerToken), Self.limit)
  }

  private func rows(tokenCount: Int, expertCount: Int, expertsPerToken: Int) -> Int {
    let share = Double(tokenCount) / Double(expertCount)
    switch self {
    case .unlimited: return Self.limit
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
    case .flaxformer(let factor, let minimum):
      let even = (factor * Double(tokenCount) / Double(expertCount)).rounded(.toNearestOrEven)
      return max(Self.whole(even), minimum)
    case .deepSpeed(let factor, let minimum):
      let product = Float(share) * Float(Double(expertsPerToken) * factor)
      return max(Self.whole(Double(product.rounded(.up))), minimum)
    case .megatron(let factor):
      let share = Double(tokenCount * expertsPerToken) / Double(expertCount)
      return Self.whole((share * factor).rounded(.up))
    case .tutel(let factor):
      let share = (tokenCount + expertCount - 1) / expertCount
      let (rows, overflows) = Self.whole(factor * Double(share)).multipliedReportingOverflow(
        by: expertsPerToken)
      return overflows ? Self.limit : rows
    case .megaBlocks(let factor):
      let rows = Self.whole(factor * (Double(expertsPerToken * tokenCount) / Double(expertCount)))
      return rows == 0 ? Self.limit : rows
    case .fastMoESwitch(let factor):
      return Self.whole((factor * Double(tokenCount) / Double(expertCount)).rounded(.up))
    case .fastMoEGShard(let factor):
      return Self.whole((factor * Double(tokenCount)).rounded(.up)) * expertsPerToken / expertCount
    case .vmoe(let factor):
      let rows = Double(tokenCount * expertsPerToken) * factor / Double(expertCount)
      return (min(Self.whole(rows.rounded(.up)), Self.limit) + 3) / 4 * 4
    case .nllb(let fraction):
      return Self.whole((fraction * Double(tokenCount)).rounded(.up))
    }
  }

  /// The largest capacity returned. Every batch has fewer rows, so a larger capacity would have the same effect.
  private static let limit = 1 << 31
  /// The capacity of ``unlimited``.
  package static let unlimitedRows = limit

  /// Returns the integer part of `value`, at most ``limit``. Returns 0 for NaN, which is zero tokens times an infinite
  /// factor.
  private static func whole(_ value: Double) -> Int { value > 0 ? Int(min(value, Double(limit))) : 0 }

  /// Returns ⌈a·b/c⌉, at most ``limit``; the product a·b may be larger than an integer holds.
  private static func ceiling(of a: UInt, times b: UInt, over c: UInt) -> Int {
    let product = a.multipliedFullWidth(by: b)
    guard product.high < c else { return limit }
    let (quotient, remainder) = c.dividingFullWidth(product)
    return Int(min(quotient, UInt(limit) - 1)) + (remainder > 0 ? 1 : 0)
  }

  /// The error message about an invalid number in the rule; nil if all its numbers are valid.
  var complaint: String? {
    switch self {
    case .unlimited: nil
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
    case .meshTensorFlow(let factor, _), .lingvo(let factor, _), .flaxformer(let factor, _),
      .megatron(let factor), .deepSpeed(let factor, _), .tutel(let factor), .megaBlocks(let factor),
      .fastMoESwitch(let factor), .fastMoEGShard(let factor), .vmoe(let factor), .nllb(let factor):
      factor > 0 && factor.isFinite ? nil : "a capacity factor of \(factor) is not positive"
    }
  }
}
