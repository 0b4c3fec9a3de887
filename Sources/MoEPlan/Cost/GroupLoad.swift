/// The load of a split's ranks by one layer's choices: rows, seconds, and the probabilities from which traffic follows.
struct GroupLoad {
  /// `[n][EP]`: the probability that this slice is the first in which a token goes to the part.
  private(set) var tokens: [[Double]]
  /// `[n][EP]`: the expected kept rows of a token in a slice of the part.
  private(set) var rows: [[Double]]
  /// `[n][R]`: seconds that all cores of a host take for the rank's experts.
  private(set) var forward: [[Double]]
  private(set) var backward: [[Double]]
  /// `[R]`: the rows that a rank computes.
  private(set) var rankRows: [Double]
  let dropRate: Double

  init(
    chances: [Double], model: ModelShape, workload: Workload, placement: PlacementRule, topology: Topology,
    clock: ExpertClock
  ) {
    let (split, count) = (topology.split, topology.split.overlap)
    let order = ExpertOrder(placement, chances: chances, partCount: split.expertParallel)
    let ordered = order.experts.map { chances[$0] }
    let drawn = ExpectedRows(
      workload, chances: ordered, expertsPerToken: model.expertsPerToken, groupCount: split.dataParallel)
    dropRate = drawn.dropRate
    let noRanks = [Double](repeating: 0, count: topology.rankCount)
    let noParts = [[Double]](repeating: order.parts.map { _ in 0 }, count: count)
    (tokens, rows, rankRows) = (noParts, noParts, noRanks)
    (forward, backward) = (Array(repeating: noRanks, count: count), Array(repeating: noRanks, count: count))

    let choices = ChoiceModel(chances: ordered, expertsPerToken: model.expertsPerToken)
    for (part, range) in order.parts.enumerated() {
      let expected = range.map { ordered[$0] * drawn.kept[$0] }
      var kept = drawn.kept
      var sent = 0.0
      var upTo = expected.map { _ in 0.0 }
      for (slice, shares) in RowSlices(expected, count: count).shares.enumerated() {
        for (index, expert) in range.enumerated() {
          upTo[index] += shares[index]
          kept[expert] = drawn.kept[expert] * min(upTo[index], 1)
          rows[slice][part] += expected[index] * shares[index]
        }
        let chance = choices.chance(ofAny: range, kept: kept)
        tokens[slice][part] = max(chance - sent, 0)
        sent = chance
      }
      for group in 0..<split.dataParallel {
        let own = range.map { drawn.rows[group][$0] }
        let first = topology.ranks(ofGroup: group).lowerBound + part * split.tensorParallel
        for (slice, shares) in RowSlices(own, count: count).shares.enumerated() {
          var seconds = (forward: 0.0, backward: 0.0)
          for (rows, share) in zip(own, shares) {
            let time = clock.seconds(rows: rows * share)
            seconds.forward += time.forward
            seconds.backward += time.backward
          }
          for rank in first..<first + split.tensorParallel {
            forward[slice][rank] = seconds.forward
            backward[slice][rank] = seconds.backward
          }
        }
        for rank in first..<first + split.tensorParallel { rankRows[rank] = own.reduce(0, +) }
      }
    }
  }
}
