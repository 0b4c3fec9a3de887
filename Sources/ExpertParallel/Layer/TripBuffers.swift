internal import MoE

/// The memory of a trip: what is sent and received, out and back.
struct TripBuffers {
  let width: Int
  let sentTokens: TravellingRows
  let receivedTokens: TravellingRows
  let sentRows: TravellingRows
  let returnedRows: TravellingRows
}

/// Rows of floats, and the form in which they travel.
struct TravellingRows {
  /// What is sent or received.
  let travelling: MessageBuffer
  /// The same as floats: the same memory, where floats travel. Of no meaning where rows are only sent.
  private let unpacked: MessageBuffer
  private let payload: Payload

  init(travelling: MessageBuffer, unpacked: MessageBuffer, payload: Payload) {
    self.travelling = travelling
    self.unpacked = unpacked
    self.payload = payload
  }

  var floats: UnsafeMutablePointer<Float> { unsafe unpacked.floats }
  /// The floats, which the view keeps alive.
  var view: MemoryView<Float> { unpacked.view }

  func bytesPerRow(width: Int) -> Int { width * payload.bytesPerElement }

  /// One block for each rank, from a row on.
  func blocks(_ counts: [Int], from first: Int, width: Int) -> Blocks {
    let bytes = bytesPerRow(width: width)
    var offset = first * bytes
    return Blocks(
      offsets: counts.map { count in
        defer { offset += count * bytes }
        return offset
      }, counts: counts.map { $0 * bytes })
  }

  /// Copies rows of `values` in an order, to be sent, from the `first` row on; blocks of rows are tasks.
  func gather(
    _ values: UnsafePointer<Float>, _ order: ArraySlice<Int32>, width: Int, at first: Int,
    _ execution: Execution
  ) {
    let block = 64
    unsafe order.withUnsafeBufferPointer { order in
      Parallel.forEach((order.count + block - 1) / block, execution) { task in
        for index in task * block..<min((task + 1) * block, order.count) {
          unsafe put(values + Int(order[index]) * width, at: first + index, width: width)
        }
      }
    }
  }

  /// Copies one row, to be sent.
  private func put(_ source: UnsafePointer<Float>, at row: Int, width: Int) {
    switch payload {
    case .float32:
      unsafe (travelling.floats + row * width).update(from: source, count: width)
    case .bfloat16:
      let target = unsafe travelling.base.assumingMemoryBound(to: UInt16.self) + row * width
      for column in 0..<width { unsafe target[column] = source[column].roundedToBFloat16 }
    }
  }

  /// Adds up rows, to be sent, from the `first` row on; blocks of sums are tasks.
  ///
  /// - Parameters:
  ///   - terms: rows of slices, of which each of `sums` takes some.
  ///   - rows: `[slices]`, the rows of each.
  ///   - weights: `[slices]`, what rows are multiplied by first; nil for 1.
  func add(
    _ terms: [TokenDispatch.Term], _ sums: [Range<Int>], of rows: [UnsafePointer<Float>], weights: [[Float]]?,
    width: Int, at first: Int, _ execution: Execution
  ) {
    let block = 64
    Parallel.forEach((sums.count + block - 1) / block, execution) { task in
      unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { sum in
        for index in task * block..<min((task + 1) * block, sums.count) {
          unsafe sum.update(repeating: 0)
          for term in terms[sums[index]] {
            let row = unsafe rows[Int(term.slice)] + Int(term.row) * width
            let weight = weights.map { $0[Int(term.slice)][Int(term.row)] } ?? 1
            for column in 0..<width { unsafe sum[column] += weight * row[column] }
          }
          unsafe put(sum.baseAddress!, at: first + index, width: width)
        }
      }
    }
  }

  /// Makes floats of rows that have been received.
  func unpack(rows: Range<Int>, width: Int, _ execution: Execution) {
    guard payload == .bfloat16 else { return }
    let source = unsafe travelling.base.assumingMemoryBound(to: UInt16.self)
    let target = unsafe unpacked.floats
    let block = 64
    Parallel.forEach((rows.count + block - 1) / block, execution) { task in
      let first = rows.lowerBound + task * block
      for index in first * width..<min(first + block, rows.upperBound) * width {
        unsafe target[index] = Float(bitPattern: UInt32(source[index]) << 16)
      }
    }
  }
}

extension Float {
  /// The upper half of the bits of the nearest bfloat16, ties to even; NaN stays one.
  fileprivate var roundedToBFloat16: UInt16 {
    let bits = bitPattern
    return UInt16(
      truncatingIfNeeded: isNaN ? bits >> 16 | 0x40 : (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
  }
}
