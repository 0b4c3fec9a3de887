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
  public func capacity(tokenCount: Int, expertCount: Int, expertsPerToken: Int) -> Int {
    let share = Double(tokenCount) / Double(expertCount)
    switch self {
    case .fixed(let capacity): return capacity
    case .exact(let numerator, let denominator, let minimum):
      let dividend = expertsPerToken * tokenCount * numerator
      let divisor = expertCount * denominator
      return max((dividend + divisor - 1) / divisor, minimum)
    case .meshTensorFlow(let factor, let minimum):
      return max(min(tokenCount, Int(Double(tokenCount) * factor / Double(expertCount))), minimum)
    case .lingvo(let factor, let minimum):
      let capacity = Int(Double(tokenCount) * factor / Double(expertCount))
      return ((capacity == 0 ? minimum : capacity) + 3) / 4 * 4
    case .flaxformer(let factor):
      return max(Int((factor * Double(tokenCount) / Double(expertCount)).rounded(.toNearestOrEven)), 4)
    case .deepSpeed(let factor, let minimum):
      let product = Float(share) * Float(Double(expertsPerToken) * factor)
      return max(Int(product.rounded(.up)), minimum)
    case .megatron(let factor):
      return Int((Double(tokenCount * expertsPerToken) / Double(expertCount) * factor).rounded(.up))
    }
  }

  /// Says what is wrong with the rule's numbers, if anything is.
  var complaint: String? {
    switch self {
    case .fixed(let capacity) where capacity < 0: "a capacity of \(capacity) is negative"
    case .exact(let numerator, let denominator, let minimum)
    where numerator <= 0 || denominator <= 0 || minimum < 0:
      "a capacity factor of \(numerator)/\(denominator) with minimum \(minimum) is not positive"
    case .meshTensorFlow(let factor, _), .lingvo(let factor, _), .flaxformer(let factor),
      .megatron(let factor), .deepSpeed(let factor, _):
      factor > 0 && factor.isFinite ? nil : "a capacity factor of \(factor) is not positive"
    default: nil
    }
  }
}
