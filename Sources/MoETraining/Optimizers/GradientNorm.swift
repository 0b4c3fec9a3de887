public import MoE

/// Euclidean norms of gradients: of all parameters, and of each group.
public struct GradientNorm: Codable, Sendable, Equatable {
  /// That of all parameters.
  public var all: Double
  /// That of the routed experts.
  public var expert: Double
  /// That of all others.
  public var other: Double

  /// Elements whose squares are one sum; its order is fixed, so a norm has the same bits for any threads.
  private static let chunk = 1 << 15

  /// Measures the gradients of `parameters`.
  ///
  /// - Throws: ``TrainingError/notFinite(what:)`` naming the tensor nearest to the output with a NaN or infinite gradient.
  public init(of parameters: [Parameter], execution: Execution) throws(TrainingError) {
    let chunks = parameters.flatMap { parameter in
      stride(from: 0, to: parameter.count, by: Self.chunk).map {
        (parameter, $0..<min($0 + Self.chunk, parameter.count))
      }
    }
    var sums = Array(repeating: 0.0, count: chunks.count)
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      let target = unsafe sums
      Parallel.forEach(chunks.count, execution) { task in
        let (parameter, range) = chunks[task]
        unsafe target[task] = squares(of: parameter.gradient, range)
      }
    }
    // Gradients go wrong from some layer on down to the embedding: the last parameter in order is nearest to the cause.
    if let index = sums.lastIndex(where: { !$0.isFinite }) {
      let parameter = chunks[index].0
      throw .notFinite(what: "the gradient of \(parameter.firstNotFinite(in: parameter.gradient)!)")
    }
    var totals = (expert: 0.0, other: 0.0)
    for (chunk, sum) in zip(chunks, sums) {
      if chunk.0.group == .expert { totals.expert += sum } else { totals.other += sum }
    }
    all = (totals.expert + totals.other).squareRoot()
    expert = totals.expert.squareRoot()
    other = totals.other.squareRoot()
  }
}

/// Limits on the norm of gradients (Pascanu et al. 2013): what exceeds one is scaled down to it.
public struct GradientClip: Codable, Sendable, Equatable {
  /// The largest norm; nil for no limit.
  public var norm: Double?
  /// Whether experts and others each have that limit for themselves, rather than together.
  public var byGroup: Bool

  /// A limit.
  public init(norm: Double?, byGroup: Bool = false) { (self.norm, self.byGroup) = (norm, byGroup) }

  /// What the gradients of each group are to be multiplied with.
  public func scales(for norms: GradientNorm) -> GroupValues<Float> {
    guard let norm else { return .init(both: 1) }
    func scale(_ measured: Double) -> Float { measured > norm ? Float(norm / measured) : 1 }
    return byGroup
      ? .init(expert: scale(norms.expert), other: scale(norms.other)) : .init(both: scale(norms.all))
  }
}

/// Σ x² in Double, in eight sums that are added in order.
private func squares(of memory: Memory, _ range: Range<Int>) -> Double {
  let base = unsafe memory.floats
  var sums = SIMD8<Double>.zero
  var index = range.lowerBound
  while index + 8 <= range.upperBound {
    let element = unsafe SIMD8<Double>(
      UnsafeRawPointer(base + index).loadUnaligned(as: SIMD8<Float>.self))
    sums += element * element
    index += 8
  }
  var sum = 0.0
  for lane in 0..<8 { sum += sums[lane] }
  for rest in index..<range.upperBound { sum += unsafe Double(base[rest]) * Double(base[rest]) }
  return sum
}

extension Parameter {
  /// The first matrix with a NaN or infinity in memory of this parameter's layout, or the parameter where only its
  /// padding has one; nil where there is none.
  func firstNotFinite(in memory: Memory) -> String? {
    if squares(of: memory, 0..<count).isFinite { return nil }
    return tensors.first { tensor in !matrix(tensor, in: memory).elements.allSatisfy(\.isFinite) }?.name
      ?? name
  }
}
