internal import CKernels
package import MoECore

extension Kernels {
  /// Back through a set of networks: from gradients of the rows they put out to those of the rows they took in,
  /// [M, D], which it returns.
  ///
  /// - Parameters:
  ///   - output: dL/doutput of the tokens [T, D].
  ///   - order: the token of each row; nil for the identity.
  ///   - rowWeights: what each row's output was multiplied by [M]; nil for 1.
  ///   - forward: the tiles of the recorded pass.
  ///   - backward: keeps what ``networkGradients(_:only:offsets:rowCount:gradients:execution:forward:backward:scratch:)`` reads.
  package static func networkBackward(
    _ experts: PackedExperts, output: UnsafePointer<Float>, order: UnsafePointer<Int32>?,
    rowWeights: UnsafePointer<Float>?, offsets: UnsafePointer<Int64>, rowCount: Int, execution: Execution,
    forward: inout TileScratch, backward: inout BackwardTiles, scratch: inout Scratch
  ) throws(MoEError) -> UnsafeMutablePointer<Float> {
    let ex = execution.cValue
    var networks = unsafe experts.cValue
    let groups = unsafe moe_groups(E: Int64(experts.expertCount), offsets: offsets)
    let hidden = Int64(experts.hiddenSize)
    let kernel = unsafe try scratch.reserve(bytes: moe_grouped_gemm_scratch_bytes(ex))
    let outputTiles = unsafe try backward.outputTiles.reserve(
      bytes: rowBytes(experts, rowCount, experts.hiddenSize, execution))
    unsafe moe_gather_rows(ex, networks.format, groups, output, hidden, order, rowWeights, outputTiles)
    let recorded = unsafe try forward.preactivationTiles.reserve(0, of: Float.self)
    let inward = unsafe try backward.preactivationTiles.reserve(
      bytes: rowBytes(experts, rowCount, experts.upPanelCount * MOE_PANEL, execution))
    let rows = unsafe try backward.rows.reserve(rowCount * experts.hiddenSize, of: Float.self)
    unsafe moe_grouped_gemm_down_backward(ex, &networks, groups, outputTiles, recorded, inward, kernel)
    let gradients = unsafe moe_tiles(data: inward, columns: Int64(experts.upPanelCount) * Int64(MOE_PANEL))
    unsafe moe_grouped_gemm_backward(
      ex, networks.format, groups, gradients, networks.up, hidden, false, rows, kernel)
    return unsafe rows
  }

  /// Adds the gradients of the parameters of a set of networks to `gradients`, row after row, from the tiles that a
  /// forward pass and ``networkBackward(_:output:order:rowWeights:offsets:rowCount:execution:forward:backward:scratch:)``
  /// have left.
  ///
  /// - Parameter isIncluded: the networks whose gradients are added; nil for all.
  package static func networkGradients(
    _ experts: PackedExperts, only isIncluded: [Bool]? = nil, offsets: UnsafePointer<Int64>, rowCount: Int,
    gradients: NetworkGradients, execution: Execution, forward: inout TileScratch,
    backward: inout BackwardTiles, scratch: inout Scratch
  ) throws(MoEError) {
    let ex = execution.cValue
    let format = experts.precision.cValue
    let groups = unsafe moe_groups(E: Int64(experts.expertCount), offsets: offsets)
    let panel = Int64(MOE_PANEL)
    let hiddenTiles = unsafe moe_tiles(
      data: try forward.hiddenTiles.reserve(bytes: 0), columns: Int64(experts.feedForwardSize))
    let rowTiles = unsafe moe_tiles(
      data: try forward.rowTiles.reserve(bytes: 0), columns: Int64(experts.hiddenSize))
    let outputTiles = unsafe moe_tiles(
      data: try backward.outputTiles.reserve(bytes: 0), columns: Int64(gradients.downPanelCount) * panel)
    let inward = unsafe moe_tiles(
      data: try backward.preactivationTiles.reserve(bytes: 0), columns: Int64(experts.upPanelCount) * panel)
    func pairs(_ rows: moe_tiles, _ gradients: moe_tiles) -> Int {
      unsafe moe_grouped_gemm_weights_scratch_bytes(
        ex.isa, format, Int64(rowCount), groups.E, rows.columns, gradients.columns)
    }
    let kernel = unsafe try scratch.reserve(
      bytes: max(pairs(hiddenTiles, outputTiles), pairs(rowTiles, inward)))
    func add(_ included: UnsafePointer<Bool>?) {
      unsafe moe_grouped_gemm_weights(
        ex, format, groups, included, hiddenTiles, outputTiles, gradients.down.floats, kernel)
      unsafe moe_grouped_gemm_weights(
        ex, format, groups, included, rowTiles, inward, gradients.up.floats, kernel)
      unsafe groupSums(
        of: outputTiles, groups, included: included, precision: experts.precision,
        into: [gradients.downBias], execution: execution)
      unsafe groupSums(
        of: inward, groups, included: included, precision: experts.precision,
        into: experts.activation.isGated ? [gradients.gateBias, gradients.upBias] : [gradients.upBias],
        execution: execution)
    }
    if let isIncluded {
      unsafe isIncluded.withUnsafeBufferPointer { unsafe add($0.baseAddress) }
    } else {
      add(nil)
    }
  }

  /// Adds the rows of each group to the gradients of its biases, in the order of the rows.
  ///
  /// - Parameters:
  ///   - tiles: dL/dproduct as row tiles over the columns of the product's panels.
  ///   - included: the groups whose rows are added, `[E]`; nil for all.
  ///   - sums: one memory of floats `[E, columns]` for each matrix whose panels alternate; nil where the matrix has no
  ///     bias.
  static func groupSums(
    of tiles: moe_tiles, _ groups: moe_groups, included: UnsafePointer<Bool>?, precision: Precision,
    into sums: [Memory?], execution: Execution
  ) {
    if sums.allSatisfy({ $0 == nil }) { return }
    let targets = unsafe sums.map { unsafe $0?.floats }
    unsafe targets.withUnsafeBufferPointer { targets in
      unsafe moe_group_sums(
        execution.cValue, precision.cValue, groups, included, tiles, Int64(targets.count),
        targets.baseAddress)
    }
  }

  /// The product of each row [M, D] with the token [·, D] that `order` gives it.
  package static func rowProducts(
    _ tokens: UnsafePointer<Float>, order: UnsafePointer<Int32>, rows: UnsafePointer<Float>, rowCount: Int,
    hiddenSize: Int, execution: Execution
  ) throws(MoEError) -> [Float] {
    // Rows take the part of tokens with one choice each.
    var products = [Float](repeating: 0, count: rowCount)
    unsafe products.withUnsafeMutableBufferPointer { products in
      if let base = products.baseAddress {
        unsafe combineBackward(
          rows, rows: tokens, choiceRow: order, tokenCount: rowCount, expertsPerToken: 1,
          hiddenSize: hiddenSize,
          into: base, execution: execution)
      }
    }
    return products
  }

  /// dL/dweights [T, K] = `output`[t]·`rows`[choice].
  static func combineBackward(
    _ output: UnsafePointer<Float>, rows: UnsafePointer<Float>, choiceRow: UnsafePointer<Int32>,
    tokenCount: Int, expertsPerToken: Int, hiddenSize: Int, into gradients: UnsafeMutablePointer<Float>,
    execution: Execution
  ) {
    var choices = unsafe moe_choices(
      T: Int64(tokenCount), K: Int64(expertsPerToken), D: Int64(hiddenSize), y: rows, choice_row: choiceRow,
      weights: nil)
    unsafe moe_combine_backward(execution.cValue, &choices, output, gradients)
  }
}
