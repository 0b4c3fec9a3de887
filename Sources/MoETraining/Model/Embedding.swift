internal import CKernels
internal import MoE

/// The table of token embeddings, which is also the weight of the output projection.
struct Embedding {
  let projection: Linear
  /// The gradients of the table as the model's input. They are added to the gradients of the projection once per
  /// batch, so that each is one chain of additions over its tokens however the batch is split.
  let inputGradient: Memory
  private static let blockRows = 32
  private static let blockColumns = 64

  init(_ table: Parameter) throws(MoEError) {
    projection = Linear(table)
    inputGradient = try Memory(zeroed: table.count * MemoryLayout<Float>.stride)
  }

  private var hiddenSize: Int { projection.inputSize }
  private var scale: Float { Float(hiddenSize).squareRoot() }

  /// Computes x [T, D] = √D·table[token].
  func forward(_ tokens: ArraySlice<UInt8>, into x: Rows, execution: Execution) {
    let (hidden, scale) = (hiddenSize, scale)
    let table = unsafe projection.weight.values.floats
    let rows = unsafe x.floats
    Parallel.forEach((tokens.count + Self.blockRows - 1) / Self.blockRows, execution) { block in
      for token in block * Self.blockRows..<min(tokens.count, (block + 1) * Self.blockRows) {
        let from = unsafe table + Int(tokens[tokens.startIndex + token]) * hidden
        let to = unsafe rows + token * hidden
        for column in 0..<hidden { unsafe to[column] = scale * from[column] }
      }
    }
  }

  /// Adds the gradients of x to those of the table as input, in order of the tokens.
  func backward(_ gradient: Rows, tokens: ArraySlice<UInt8>, execution: Execution) {
    let (hidden, scale) = (hiddenSize, scale)
    let rows = unsafe gradient.floats
    let table = unsafe inputGradient.floats
    Parallel.forEach((hidden + Self.blockColumns - 1) / Self.blockColumns, execution) { block in
      let columns = block * Self.blockColumns..<min(hidden, (block + 1) * Self.blockColumns)
      for (index, token) in tokens.enumerated() {
        let from = unsafe rows + index * hidden
        let to = unsafe table + Int(token) * hidden
        for column in columns { unsafe to[column] += scale * from[column] }
      }
    }
  }

  /// Adds the gradients of the table as input to its gradients as output projection.
  func finishGradient() {
    let sums = unsafe projection.weight.gradient.floats
    let input = unsafe inputGradient.floats
    for index in 0..<projection.weight.count { unsafe sums[index] += input[index] }
    inputGradient.zero()
  }
}
