internal import MoECore

/// The weights of a layer with one shard of each expert: F is split into equal parts. Each part has rows of the up
/// projections and columns of the down projection. The bias of the down projection belongs to the first shard.
struct ShardedWeights<Source: MoEWeightSource>: MoEWeightSource {
  let source: Source
  let shard: Int
  let shardCount: Int

  func router() throws -> RouterWeights { try source.router() }
  func denseBranch() throws -> FeedForwardWeights { try source.denseBranch() }
  func denseBranchGate() throws -> BranchGateWeights { try source.denseBranchGate() }

  func expert(_ index: Int) throws -> FeedForwardWeights {
    let whole = try source.expert(index)
    if shardCount == 1 { return whole }
    let size = whole.up.rows / shardCount
    let inner = shard * size..<(shard + 1) * size
    var down = Matrix(rows: whole.down.rows, columns: size)
    for row in 0..<down.rows {
      for column in 0..<size { down[row, column] = whole.down[row, inner.lowerBound + column] }
    }
    return FeedForwardWeights(
      gate: whole.gate.map { $0.rows(inner) }, up: whole.up.rows(inner), down: down,
      gateBias: whole.gateBias.map { Array($0[inner]) }, upBias: whole.upBias.map { Array($0[inner]) },
      downBias: shard == 0 ? whole.downBias : nil)
  }
}
