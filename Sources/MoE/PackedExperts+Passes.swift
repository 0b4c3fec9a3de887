package import MoECore

/// The passes of a set of networks over rows of tokens.
extension PackedExperts {
  /// Applies the networks to rows of `tokens` [T, D]: gathers the rows, then computes the up projection with the
  /// activation, then the down projection.
  ///
  /// - Parameters:
  ///   - weights: the factor of each row [M]; nil for 1.
  ///   - isRecorded: whether to keep the values that a backward pass reads.
  ///   - needsRows: false if the second product is not needed.
  package func forward(
    _ tokens: MemoryView<Float>, _ groups: RowGroups, weights: MemoryView<Float>?, isRecorded: Bool,
    needsRows: Bool, execution: Execution, tiles: inout TileScratch, scratch: inout CallScratch
  ) throws(MoEError) -> NetworkTiles {
    let input = try Kernels.gather(
      tokens, width: hiddenSize, groups, weights: weights, precision: precision, execution: execution,
      into: &tiles.input)
    let (preactivation, hidden) = try Kernels.groupedGEMMUp(
      self, input, isRecorded: isRecorded, execution: execution, tiles: &tiles, scratch: &scratch)
    let rows =
      needsRows
      ? try Kernels.groupedGEMMDown(
        self, hidden, execution: execution, into: &tiles.rows, scratch: &scratch) : nil
    return NetworkTiles(input: input, preactivation: preactivation, hidden: hidden, rows: rows)
  }

  /// Computes the gradients of the networks' input rows.
  ///
  /// - Parameters:
  ///   - output: the tokens' dL/doutput [T, D].
  ///   - rowWeights: the factor [M] that each row's output was multiplied by; nil for 1.
  ///   - forward: the values of a recorded pass.
  package func backward(
    _ output: MemoryView<Float>, rowWeights: MemoryView<Float>?, forward: NetworkTiles, execution: Execution,
    tiles: inout GradientTileScratch, scratch: inout CallScratch
  ) throws(MoEError) -> NetworkGradientTiles {
    let outputTiles = try Kernels.gather(
      output, width: hiddenSize, forward.groups, weights: rowWeights, precision: precision,
      execution: execution, into: &tiles.output)
    let preactivation = try Kernels.groupedGEMMDownBackward(
      self, outputTiles, preactivation: forward.preactivation!, execution: execution,
      into: &tiles.preactivation, scratch: &scratch)
    let rows = try tiles.rows.reserve(forward.groups.rowCount * hiddenSize, of: Float.self)
    try Kernels.groupedGEMMBackward(
      preactivation, upPanels, adding: false, into: rows, execution: execution, scratch: &scratch)
    return NetworkGradientTiles(
      forward: forward, output: outputTiles, preactivation: preactivation, rows: rows)
  }

  /// Adds the gradients of the networks' parameters to `sums`, row after row.
  ///
  /// - Parameter isIncluded: the networks whose gradients are added; nil for all.
  package func addGradients(
    of pass: NetworkGradientTiles, only isIncluded: [Bool]? = nil, to sums: NetworkGradients,
    execution: Execution, scratch: inout CallScratch
  ) throws(MoEError) {
    try Kernels.groupedGEMMWeights(
      pass.forward.hidden, pass.output, only: isIncluded, to: sums.down, execution: execution,
      scratch: &scratch)
    try Kernels.groupedGEMMWeights(
      pass.forward.input, pass.preactivation, only: isIncluded, to: sums.up, execution: execution,
      scratch: &scratch)
    Kernels.groupSums(pass.output, only: isIncluded, to: [sums.downBias], execution: execution)
    Kernels.groupSums(
      pass.preactivation, only: isIncluded,
      to: activation.isGated ? [sums.gateBias, sums.upBias] : [sums.upBias], execution: execution)
  }
}

extension NetworkTiles {
  /// Returns the dot product of each output row of the networks [M, D] with the gradient `output` [T, D] of its token.
  package func products(with output: MemoryView<Float>, execution: Execution) throws(MoEError) -> [Float] {
    let products = MemoryView<Float>(
      try Memory(byteCount: groups.rowCount * MemoryLayout<Float>.stride), count: groups.rowCount)
    // Each row is passed as a token with one choice.
    Kernels.combineBackward(
      Combination(
        rows: output, choiceRow: groups.tokens!, tokenCount: groups.rowCount, expertsPerToken: 1,
        hiddenSize: input.width),
      gradient: rows!, into: products, execution: execution)
    return products.elements
  }
}
