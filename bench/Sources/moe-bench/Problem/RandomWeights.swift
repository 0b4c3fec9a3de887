import MoE

/// Random parameters that are made on request, one expert at a time, so that a layer is never in memory twice. An
/// expert always gets the same numbers, so the oracle can request it again.
struct RandomWeights: MoEWeightSource {
  let shape: Shape
  /// The format to which values are rounded, so that packing is exact and the measured error is that of the kernels.
  let precision: Precision
  var seed: UInt64 = 7

  func router() -> RouterWeights {
    var generator = SeededGenerator(seed: seed)
    return RouterWeights(weight: matrix(shape.expertCount, shape.hiddenSize, &generator))
  }

  func expert(_ index: Int) -> FeedForwardWeights {
    var generator = SeededGenerator(seed: seed &+ 0x9E37_79B9 &* UInt64(index + 1))
    let gate = shape.isGated ? matrix(shape.feedForwardSize, shape.hiddenSize, &generator) : nil
    let up = matrix(shape.feedForwardSize, shape.hiddenSize, &generator)
    let down = matrix(shape.hiddenSize, shape.feedForwardSize, &generator)
    return FeedForwardWeights(gate: gate, up: up, down: down)
  }

  func denseBranch() throws -> FeedForwardWeights {
    throw MoEError.invalidConfiguration("the bench's layers have no dense branch")
  }

  func denseBranchGate() throws -> BranchGateWeights {
    throw MoEError.invalidConfiguration("the bench's layers have no dense branch")
  }

  /// Returns a random matrix whose scale gives outputs the size of inputs.
  private func matrix(_ rows: Int, _ columns: Int, _ generator: inout SeededGenerator) -> Matrix {
    var matrix = Matrix.normal(
      rows: rows, columns: columns, deviation: 1 / Float(columns).squareRoot(), using: &generator)
    if precision == .bfloat16 { matrix.roundToBFloat16() }
    return matrix
  }
}

/// Returns inputs [T, D] that take turns. Small batches get 16 inputs, so that the experts' weights come from memory
/// and not from the cache of the last call.
func randomInputs(tokenCount: Int, shape: Shape, precision: Precision, large: Int = 1) -> [Activations] {
  (0..<(tokenCount <= 16 ? 16 : large)).map { index in
    var input = Activations.random(
      [tokenCount, shape.hiddenSize], seed: UInt64(100 + tokenCount) << 8 | UInt64(index))
    if precision == .bfloat16 { input.tokens.roundToBFloat16() }
    return input
  }
}

extension Matrix {
  /// Rounds every element to the nearest bfloat16, ties to even.
  mutating func roundToBFloat16() {
    withUnsafeMutableBufferPointer { elements in
      for index in elements.indices {
        let bits = elements[index].bitPattern
        elements[index] = Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
      }
    }
  }
}
