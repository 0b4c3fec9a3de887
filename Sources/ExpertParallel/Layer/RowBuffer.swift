internal import MoE

/// The buffers of the rows that a pass dispatches and combines.
struct DispatchBuffers {
  /// The tokens that this rank sends to the experts, and the tokens that it receives for its own experts.
  let sentTokens: RowBuffer
  let receivedTokens: RowBuffer
  /// The rows of this rank's experts that it sends back, and the rows that come back for this rank's tokens.
  let sentRows: RowBuffer
  let returnedRows: RowBuffer
}

/// Rows of floats `[rows, width]`, and the message in which they travel.
struct RowBuffer {
  /// The rows as they travel, in the payload's number format.
  let message: MessageBuffer
  /// The rows as floats, in the memory of `message` if floats travel. Rows that are only sent do not use it.
  private let values: MessageBuffer
  private let payload: Payload
  /// The number of values per row, D.
  let width: Int

  init(message: MessageBuffer, values: MessageBuffer, payload: Payload, width: Int) {
    self.message = message
    self.values = values
    self.payload = payload
    self.width = width
  }

  /// `[rows, width]`, valid as long as the buffer lives.
  private var floats: UnsafeMutablePointer<Float> { unsafe values.floats }
  /// `[rows, width]`, which the view keeps alive.
  var view: MemoryView<Float> { values.view }

  /// The size of a row in the message, in bytes.
  var bytesPerRow: Int { width * payload.bytesPerElement }

  /// Returns the layout of a message with `counts` rows per rank that begins at the row `first`.
  func layout(_ counts: [Int], from first: Int) -> BlockLayout {
    BlockLayout(rows: counts, bytesPerRow: bytesPerRow, from: first * bytesPerRow)
  }

  /// The number of rows that one task of a team copies.
  private static let rowsPerTask = 64

  /// Calls `body` for each of `count` rows, in parallel.
  private func forEachRow(_ count: Int, _ execution: Execution, _ body: (Int) -> Void) {
    let block = Self.rowsPerTask
    Parallel.forEach((count + block - 1) / block, execution) { task in
      for row in task * block..<min((task + 1) * block, count) { body(row) }
    }
  }

  /// Gathers rows of `source` by their indices into the message, from its row `first` on.
  func gather(
    _ source: MemoryView<Float>, _ indices: ArraySlice<Int32>, at first: Int, _ execution: Execution
  ) {
    let source = unsafe source.base
    unsafe indices.withUnsafeBufferPointer { indices in
      forEachRow(indices.count, execution) { row in
        unsafe put(source + Int(indices[row]) * width, at: first + row)
      }
    }
  }

  /// Adds up rows and writes the sums to the message, from its row `first` on.
  ///
  /// - Parameters:
  ///   - sums: for each sum its terms, as a range of `terms`.
  ///   - terms: rows of slices.
  ///   - rows: `[slices]`: the rows of each slice, `[rows, width]`.
  ///   - weights: `[slices][rows]`: the number by which each row is multiplied first; nil for 1.
  ///   - first: the row of the first sum.
  ///   - execution: the threads.
  func add(
    _ sums: [Range<Int>], of terms: [DispatchPlan.Term], rows: [MemoryView<Float>], weights: [[Float]]?,
    at first: Int, _ execution: Execution
  ) {
    let block = Self.rowsPerTask
    let rows = unsafe rows.map { unsafe $0.base }
    Parallel.forEach((sums.count + block - 1) / block, execution) { task in
      unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { sum in
        for index in task * block..<min((task + 1) * block, sums.count) {
          unsafe sum.update(repeating: 0)
          for term in terms[sums[index]] {
            let row = unsafe rows[Int(term.slice)] + Int(term.row) * width
            let weight = weights.map { $0[Int(term.slice)][Int(term.row)] } ?? 1
            for column in 0..<width { unsafe sum[column] += weight * row[column] }
          }
          unsafe put(sum.baseAddress!, at: first + index)
        }
      }
    }
  }

  /// Copies one row into the message.
  private func put(_ source: UnsafePointer<Float>, at row: Int) {
    switch payload {
    case .float32:
      unsafe (message.floats + row * width).update(from: source, count: width)
    case .bfloat16:
      let target = unsafe message.base.assumingMemoryBound(to: UInt16.self) + row * width
      for column in 0..<width { unsafe target[column] = source[column].roundedToBFloat16 }
    }
  }

  /// Widens received rows to floats.
  func unpack(_ rows: Range<Int>, _ execution: Execution) {
    guard payload == .bfloat16 else { return }
    let source = unsafe message.base.assumingMemoryBound(to: UInt16.self)
    let target = unsafe values.floats
    forEachRow(rows.count, execution) { row in
      let first = (rows.lowerBound + row) * width
      for index in first..<first + width {
        unsafe target[index] = Float(bitPattern: UInt32(source[index]) << 16)
      }
    }
  }

  /// Adds rows of this buffer to others: with tensor parallelism, the rows of further shards to the row of the first.
  ///
  /// Each task takes some columns, so that every sum is added up in the order of the shards.
  func add(_ shardRows: [(row: Int32, target: Int32)], _ execution: Execution) {
    guard !shardRows.isEmpty else { return }
    let block = 256
    Parallel.forEach((width + block - 1) / block, execution) { task in
      for (row, target) in shardRows {
        let (source, sum) = unsafe (floats + Int(row) * width, floats + Int(target) * width)
        for column in task * block..<min((task + 1) * block, width) {
          unsafe sum[column] += source[column]
        }
      }
    }
  }
}

extension Float {
  /// The bits of the nearest bfloat16, ties to even. NaN stays NaN.
  fileprivate var roundedToBFloat16: UInt16 {
    let bits = bitPattern
    return UInt16(
      truncatingIfNeeded: isNaN ? bits >> 16 | 0x40 : (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
  }
}
