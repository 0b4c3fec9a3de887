internal import CKernels
internal import MoECore

extension Kernels {
  /// Computes dL/d(gate, up) from dL/doutput: the backward pass of the networks' second product and activation.
  static func groupedGEMMDownBackward(
    _ experts: PackedExperts, _ output: RowTiles, preactivation: RowTiles, execution: Execution,
    into tiles: inout Scratch, scratch: inout CallScratch
  ) throws(MoEError) -> RowTiles {
    let groups = output.groups
    let gradients = try reserveTiles(
      groups, width: preactivation.width, precision: experts.precision, execution, in: &tiles)
    let kernel = try scratch.kernel.reserve(bytes: moe_grouped_gemm_scratch_bytes(execution.cValue))
    var networks = unsafe experts.cValue
    unsafe moe_grouped_gemm_down_backward(
      execution.cValue, &networks, groups.cValue, output.memory.base, preactivation.memory.floats,
      gradients.memory.base, kernel.base)
    return gradients
  }

  /// Computes dL/drows [M, k] as `gradients` times `weights`, and writes it to `rows` or adds it to them.
  static func groupedGEMMBackward(
    _ gradients: RowTiles, _ weights: Panels, adding: Bool, into rows: MemoryView<Float>,
    execution: Execution, scratch: inout CallScratch
  ) throws(MoEError) {
    let kernel = try scratch.kernel.reserve(bytes: moe_grouped_gemm_scratch_bytes(execution.cValue))
    unsafe moe_grouped_gemm_backward(
      execution.cValue, weights.precision.cValue, gradients.groups.cValue, gradients.cValue,
      weights.memory.base, Int64(weights.depth), adding, rows.base, kernel.base)
  }

  /// Adds the gradients of a product's weights to the fp32 panels `sums`: the products of its rows and their gradients,
  /// row after row.
  ///
  /// - Parameter isIncluded: the groups whose sums are added; nil for all.
  static func groupedGEMMWeights(
    _ rows: RowTiles, _ gradients: RowTiles, only isIncluded: [Bool]?, to sums: Memory, execution: Execution,
    scratch: inout CallScratch
  ) throws(MoEError) {
    let (groups, ex, format) = (rows.groups, execution.cValue, rows.precision.cValue)
    let columns = unsafe gradients.cPadded.columns
    let kernel = try scratch.kernel.reserve(
      bytes: moe_grouped_gemm_weights_scratch_bytes(
        ex.isa, format, Int64(groups.rowCount), Int64(groups.groupCount), Int64(rows.width), columns))
    unsafe withOptional(isIncluded) { included in
      unsafe moe_grouped_gemm_weights(
        ex, format, groups.cValue, included, rows.cValue, gradients.cPadded, sums.floats, kernel.base)
    }
  }

  /// Adds the rows of each group to the gradients of its biases, row after row.
  ///
  /// - Parameters:
  ///   - isIncluded: the groups whose rows are added; nil for all.
  ///   - sums: the bias gradients `[groups, columns]` of each of the matrices whose panels alternate; nil for a matrix
  ///     without a bias.
  static func groupSums(
    _ gradients: RowTiles, only isIncluded: [Bool]?, to sums: [Memory?], execution: Execution
  ) {
    if sums.allSatisfy({ $0 == nil }) { return }
    let targets = unsafe sums.map { unsafe $0?.floats }
    unsafe targets.withUnsafeBufferPointer { targets in
      unsafe withOptional(isIncluded) { included in
        unsafe moe_group_sums(
          execution.cValue, gradients.precision.cValue, gradients.groups.cValue, included, gradients.cPadded,
          Int64(targets.count), targets.baseAddress)
      }
    }
  }

  private static func withOptional(_ isIncluded: [Bool]?, _ body: (UnsafePointer<Bool>?) -> Void) {
    guard let isIncluded else { return body(nil) }
    unsafe isIncluded.withUnsafeBufferPointer { unsafe body($0.baseAddress) }
  }
}
