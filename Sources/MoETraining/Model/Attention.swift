internal import CKernels
internal import MoE

/// Causal attention of several heads over rotary positions (Su et al. 2021).
///
/// One head of one sequence is one task. It computes the scores in blocks of rows. A block has columns only for the
/// tokens up to its last row, because attention is causal.
struct Attention {
  let queryKeyValue: Linear
  let output: Linear
  let headCount: Int
  let positions: RotaryTable
  /// The number of rows of scores that one matrix product computes.
  private static let blockRows = 128

  private var hiddenSize: Int { output.outputSize }
  private var headSize: Int { hiddenSize / headCount }
  private var scale: Float { 1 / Float(headSize).squareRoot() }
  /// The number of columns of a row of scores: S rounded up to 16.
  static func width(_ length: Int) -> Int { (length + 15) / 16 * 16 }

  /// The values of one layer's attention that a pass keeps.
  @safe final class State {
    /// Rotated queries, rotated keys, and values: [B·S, 3D].
    let projected: Memory
    /// The softmax of the scores, [B, heads, S, width]; nil where the backward pass computes it again.
    let probabilities: Memory?
    let context: Memory

    init(_ attention: Attention, sequences: Int, length: Int, isRecomputed: Bool) throws(MoEError) {
      let rows = sequences * length
      projected = try Memory(floats: rows * 3 * attention.hiddenSize)
      context = try Memory(floats: rows * attention.hiddenSize)
      probabilities =
        isRecomputed
        ? nil : try Memory(floats: rows * attention.headCount * Attention.width(length))
    }
  }

  /// The buffers that all layers share within a pass.
  @safe final class Scratch {
    /// Two blocks of scores for each task.
    let blocks: Memory
    let projectedGradient: Memory
    let contextGradient: Memory
    let blockFloats: Int

    init(_ attention: Attention, sequences: Int, length: Int) throws(MoEError) {
      blockFloats = min(Attention.blockRows, length) * Attention.width(length)
      blocks = try Memory(floats: 2 * sequences * attention.headCount * blockFloats)
      projectedGradient = try Memory(floats: sequences * length * 3 * attention.hiddenSize)
      contextGradient = try Memory(floats: sequences * length * attention.hiddenSize)
    }
  }

  /// Computes y [B·S, D] from x [B·S, D].
  func forward(
    _ x: Rows, sequences: Int, length: Int, state: State, scratch: Scratch, into y: Rows,
    execution: Execution
  ) {
    let (hidden, size) = (hiddenSize, headSize)
    unsafe queryKeyValue.forward(
      x.floats, sequences: sequences, length: length, into: state.projected.floats, execution: execution)
    var rotary = unsafe rotary(length: length)
    unsafe moe_rotate(
      execution.cValue, &rotary, state.projected.floats, Int64(sequences * length), Int64(3 * hidden), false)
    Parallel.forEach(sequences * headCount, execution) { task in
      let start = task / headCount * length * 3 * hidden + task % headCount * size
      let query = unsafe state.projected.floats + start
      for first in stride(from: 0, to: length, by: Self.blockRows) {
        let rows = min(Self.blockRows, length - first)
        let block = unsafe scores(
          query, first: first, rows: rows, length: length, task: task, state: state, scratch: scratch,
          execution)
        unsafe OpenBLAS.multiply(
          .init(block, stride: Self.width(length)), .init(query + 2 * hidden, stride: 3 * hidden), m: rows,
          n: size, k: first + rows,
          into: state.context.floats + (task / headCount * length + first) * hidden + task % headCount * size,
          stride: hidden)
      }
    }
    unsafe output.forward(
      state.context.floats, sequences: sequences, length: length, into: y.floats, execution: execution)
  }

  /// Returns the rotation of the heads of queries and keys in sequences of `length` tokens. The first token of a
  /// sequence is at position `first`.
  func rotary(length: Int, first: Int = 0) -> moe_rotary {
    unsafe moe_rotary(
      S: Int64(length), first_position: Int64(first), heads: Int64(2 * headCount), head_size: Int64(headSize),
      cosines: positions.cosines.floats, sines: positions.sines.floats)
  }

  /// Computes the scores of a block of rows, and their softmax.
  private func scores(
    _ query: UnsafePointer<Float>, first: Int, rows: Int, length: Int, task: Int, state: State,
    scratch: Scratch, _ execution: Execution
  ) -> UnsafeMutablePointer<Float> {
    let (hidden, width) = (hiddenSize, Self.width(length))
    let block =
      if let all = state.probabilities {
        unsafe all.floats + (task * length + first) * width
      } else {
        unsafe scratch.blocks.floats + 2 * task * scratch.blockFloats
      }
    unsafe OpenBLAS.multiply(
      .init(query + first * 3 * hidden, stride: 3 * hidden),
      .init(query + hidden, stride: 3 * hidden, isTransposed: true), m: rows, n: first + rows, k: headSize,
      into: block, stride: width)
    unsafe moe_causal_softmax(
      execution.instructionSet.cValue, block, Int64(rows), Int64(first), Int64(width), scale)
    return unsafe block
  }

  /// Computes dx [B·S, D] from dy, and adds the gradients of both weights.
  func backward(
    _ part: BackwardPart, _ dy: Rows, x: Rows, sequences: Int, length: Int, state: State, scratch: Scratch,
    into dx: Rows,
    execution: Execution
  ) {
    let hidden = hiddenSize
    unsafe output.backward(
      part, dy.floats, x: state.context.floats, sequences: sequences, length: length,
      into: scratch.contextGradient.floats, execution: execution)
    if part != .parameters {
      Parallel.forEach(sequences * headCount, execution) { task in
        headBackward(task, length: length, state: state, scratch: scratch, execution)
      }
      var rotary = unsafe rotary(length: length)
      unsafe moe_rotate(
        execution.cValue, &rotary, scratch.projectedGradient.floats, Int64(sequences * length),
        Int64(3 * hidden), true)
    }
    unsafe queryKeyValue.backward(
      part, scratch.projectedGradient.floats, x: x.floats, sequences: sequences, length: length,
      into: dx.floats,
      execution: execution)
  }

  /// Computes the gradients of queries, keys and values of one head of one sequence. It begins with the last block of
  /// rows: this block has all columns, so it writes the sums of all keys and values, and the other blocks add to
  /// them.
  private func headBackward(
    _ task: Int, length: Int, state: State, scratch: Scratch, _ execution: Execution
  ) {
    let (hidden, size, width) = (hiddenSize, headSize, Self.width(length))
    let (sequence, head) = (task / headCount, task % headCount)
    let start = sequence * length * 3 * hidden + head * size
    let query = unsafe state.projected.floats + start
    let queryGradient = unsafe scratch.projectedGradient.floats + start
    let gradient = unsafe scratch.blocks.floats + (2 * task + 1) * scratch.blockFloats
    for first in stride(from: 0, to: length, by: Self.blockRows).reversed() {
      let rows = min(Self.blockRows, length - first)
      let columns = first + rows
      let isLast = columns == length
      let p =
        if let all = state.probabilities {
          unsafe all.floats + (task * length + first) * width
        } else {
          unsafe scores(
            query, first: first, rows: rows, length: length, task: task, state: state, scratch: scratch,
            execution)
        }
      let dOut = unsafe OpenBLAS.Operand(
        scratch.contextGradient.floats + (sequence * length + first) * hidden + head * size, stride: hidden)
      unsafe OpenBLAS.multiply(
        .init(p, stride: width, isTransposed: true), dOut, m: columns, n: size, k: rows,
        into: queryGradient + 2 * hidden, stride: 3 * hidden, accumulates: !isLast)
      unsafe OpenBLAS.multiply(
        dOut, .init(query + 2 * hidden, stride: 3 * hidden, isTransposed: true), m: rows, n: columns, k: size,
        into: gradient, stride: width)
      // Padding columns are multiplied by probabilities of 0, so they must be finite.
      for row in 0..<rows {
        for column in columns..<(columns + 15) / 16 * 16 { unsafe gradient[row * width + column] = 0 }
      }
      unsafe moe_causal_softmax_backward(
        execution.instructionSet.cValue, p, gradient, Int64(rows), Int64(first), Int64(width), scale)
      unsafe OpenBLAS.multiply(
        .init(gradient, stride: width), .init(query + hidden, stride: 3 * hidden), m: rows, n: size,
        k: columns, into: queryGradient + first * 3 * hidden, stride: 3 * hidden)
      unsafe OpenBLAS.multiply(
        .init(gradient, stride: width, isTransposed: true),
        .init(query + first * 3 * hidden, stride: 3 * hidden), m: columns, n: size, k: rows,
        into: queryGradient + hidden, stride: 3 * hidden, accumulates: !isLast)
    }
  }
}
