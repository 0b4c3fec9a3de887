internal import MoE

/// y = x·Wᵀ with a row-major weight [N, K].
///
/// In the forward product, one sequence is one task. The gradient of the weight adds up sequence by sequence in their
/// order. So the bits depend neither on threads nor on how a batch is split between sequences.
struct Linear {
  let weight: Parameter
  let inputSize: Int
  let outputSize: Int
  /// The number of rows of the weight's gradient that one task computes.
  private static let blockRows = 64

  init(_ weight: Parameter) {
    self.weight = weight
    outputSize = weight.tensors[0].shape[0]
    inputSize = weight.tensors[0].shape[1]
  }

  /// Computes y [B·S, N] from x [B·S, K].
  func forward(
    _ x: UnsafePointer<Float>, sequences: Int, length: Int, into y: UnsafeMutablePointer<Float>,
    execution: Execution
  ) {
    Parallel.forEach(sequences, execution) { sequence in
      unsafe OpenBLAS.multiply(
        .init(x + sequence * length * inputSize, stride: inputSize),
        .init(weight.values.floats, stride: inputSize, isTransposed: true), m: length, n: outputSize,
        k: inputSize, into: y + sequence * length * outputSize, stride: outputSize)
    }
  }

  /// Computes dx [B·S, K] = dy [B·S, N]·W, and adds dyᵀ·x to the weight's gradient.
  func backward(
    _ part: BackwardPart, _ dy: UnsafePointer<Float>, x: UnsafePointer<Float>, sequences: Int, length: Int,
    into dx: UnsafeMutablePointer<Float>, execution: Execution
  ) {
    let blocks = part == .input ? 0 : (outputSize + Self.blockRows - 1) / Self.blockRows
    let inputs = part == .parameters ? 0 : sequences
    Parallel.forEach(inputs + blocks, execution) { task in
      if task < inputs {
        unsafe OpenBLAS.multiply(
          .init(dy + task * length * outputSize, stride: outputSize),
          .init(weight.values.floats, stride: inputSize), m: length, n: inputSize, k: outputSize,
          into: dx + task * length * inputSize, stride: inputSize)
        return
      }
      let first = (task - inputs) * Self.blockRows
      for sequence in 0..<sequences {
        unsafe OpenBLAS.multiply(
          .init(dy + sequence * length * outputSize + first, stride: outputSize, isTransposed: true),
          .init(x + sequence * length * inputSize, stride: inputSize),
          m: min(Self.blockRows, outputSize - first), n: inputSize, k: length,
          into: weight.gradient.floats + first * inputSize, stride: inputSize, accumulates: true)
      }
    }
  }
}
