internal import ExpertParallel
public import MoE

/// Euclidean norms of gradients: of all parameters, and of each group.
public struct GradientNorm: Sendable, Equatable {
  /// The norm over all parameters.
  public var all: Double
  /// The norm over the routed experts.
  public var expert: Double
  /// The norm over all other parameters.
  public var other: Double

  /// The number of elements whose squares are added in one sum.
  private static let chunk = 1 << 15

  /// The sum of squares of one expert's part of a parameter, or of a whole parameter that has no experts.
  private struct Square: BitwiseCopyable {
    var parameter: Int
    var expert: Int
    var sum = 0.0
  }

  /// Measures the gradients of `parameters`.
  ///
  /// Squares are added by chunk, chunks by expert, and experts in their order, each once. So a norm has equal bits
  /// for any number of threads and any placement of experts. With ranks a collective: each rank adds up its own
  /// squares.
  ///
  /// - Throws: ``TrainingError/notFinite(what:)`` naming the tensor nearest to the output with a NaN or infinite
  ///   gradient, on all ranks; `CommunicationError`.
  public init(of parameters: [Parameter], over ranks: Ranks? = nil, execution: Execution) throws {
    var squares = Self.squares(of: parameters, execution)
    if let ranks { squares = try Self.whole(squares, ranks) }
    // A gradient that is not finite spreads from its layer down to the embedding, so the last parameter in order is
    // nearest to the cause.
    if let place = squares.last(where: { !$0.sum.isFinite })?.parameter {
      let parameter = parameters[place]
      let own = parameter.firstNotFinite(in: parameter.gradient)
      let name = try ranks?.first(own.map { (0, $0) }, step: "the search for NaN") ?? own!
      throw TrainingError.notFinite(what: "the gradient of \(name)")
    }
    var totals = (expert: 0.0, other: 0.0)
    for square in squares {
      if parameters[square.parameter].group == .expert {
        totals.expert += square.sum
      } else {
        totals.other += square.sum
      }
    }
    all = (totals.expert + totals.other).squareRoot()
    expert = totals.expert.squareRoot()
    other = totals.other.squareRoot()
  }

  /// Returns the sums of this rank, in order of parameters and experts.
  private static func squares(of parameters: [Parameter], _ execution: Execution) -> [Square] {
    var result: [Square] = []
    var chunks: [(square: Int, parameter: Parameter, range: Range<Int>)] = []
    for (place, parameter) in parameters.enumerated() {
      let experts = parameter.experts.isEmpty ? [0] : parameter.experts
      let count = parameter.count / experts.count
      for (index, expert) in experts.enumerated() {
        for first in stride(from: 0, to: count, by: chunk) {
          let start = index * count + first
          chunks.append((result.count, parameter, start..<start + min(chunk, count - first)))
        }
        result.append(Square(parameter: place, expert: expert))
      }
    }
    var sums = Array(repeating: 0.0, count: chunks.count)
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      let target = unsafe sums
      Parallel.forEach(chunks.count, execution) { task in
        unsafe target[task] = MoETraining.squares(of: chunks[task].parameter.gradient, chunks[task].range)
      }
    }
    for (chunk, sum) in zip(chunks, sums) { result[chunk.square].sum += sum }
    return result
  }

  /// Returns the sums of all ranks in order of parameters and experts. A sum that several ranks have is taken once.
  private static func whole(_ squares: [Square], _ ranks: Ranks) throws -> [Square] {
    var seen: Set<[Int]> = []
    return try ranks.communicator.allGatherLists(squares, during: "the norm of the gradients").joined()
      .filter { seen.insert([$0.parameter, $0.expert]).inserted }
      .sorted { ($0.parameter, $0.expert) < ($1.parameter, $1.expert) }
  }
}

/// The limit of the gradients' norm (Pascanu et al. 2013). Gradients with a larger norm are scaled down to it.
public struct GradientClip: Codable, Sendable, Equatable {
  /// The largest norm; nil for no limit.
  public var norm: Double?
  /// Whether the limit applies to experts and to other parameters separately, rather than to all together.
  public var byGroup: Bool

  /// Sets the limit.
  public init(norm: Double?, byGroup: Bool = false) { (self.norm, self.byGroup) = (norm, byGroup) }

  /// Returns the factors by which the gradients of each group are multiplied.
  public func scales(for norms: GradientNorm) -> GroupValues<Float> {
    guard let norm else { return .init(both: 1) }
    func scale(_ measured: Double) -> Float { measured > norm ? Float(norm / measured) : 1 }
    return byGroup
      ? .init(expert: scale(norms.expert), other: scale(norms.other)) : .init(both: scale(norms.all))
  }
}

/// Returns Σ x² in Double, from eight sums that are added in order.
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
  /// Returns the name of the first matrix with a NaN or infinity in `memory`, which has this parameter's layout, or
  /// the parameter's name if only its padding has one; nil where all values are finite.
  func firstNotFinite(in memory: Memory) -> String? {
    if squares(of: memory, 0..<count).isFinite { return nil }
    return tensors.first { tensor in !matrix(tensor, in: memory).elements.allSatisfy(\.isFinite) }?.name
      ?? name
  }
}
