internal import MoECore

/// The weights of a layer with one of the equal parts into which the F of every expert is split: rows of the projections
/// up, columns of the one down. The bias after the latter belongs to the first part.
struct PartOfExperts<Source: MoEWeightSource>: MoEWeightSource {
  let source: Source
  let part: Int
  let partCount: Int

  func router() throws -> RouterWeights { try source.router() }
  func denseBranch() throws -> FeedForwardWeights { try source.denseBranch() }
  func denseBranchGate() throws -> BranchGateWeights { try source.denseBranchGate() }

  func expert(_ index: Int) throws -> FeedForwardWeights {
    let whole = try source.expert(index)
    if partCount == 1 { return whole }
    let size = whole.up.rows / partCount
    let own = part * size..<(part + 1) * size
    var down = Matrix(rows: whole.down.rows, columns: size)
    for row in 0..<down.rows {
      for column in 0..<size { down[row, column] = whole.down[row, own.lowerBound + column] }
    }
    return FeedForwardWeights(
      gate: whole.gate.map { $0.rows(own) }, up: whole.up.rows(own), down: down,
      gateBias: whole.gateBias.map { Array($0[own]) }, upBias: whole.upBias.map { Array($0[own]) },
      downBias: part == 0 ? whole.downBias : nil)
  }
}
