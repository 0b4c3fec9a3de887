/// What a split's ranks get of one layer's choices: rows of each, their time, and the chances that traffic follows.
struct GroupLoad {
  /// `[n][EP]`: the chance that a token first goes to a part in this slice.
  private(set) var tokens: [[Double]] = []
  /// `[n][EP]`: a token's expected kept rows in the slice of a part.
  private(set) var rows: [[Double]] = []
  /// `[n][R]`: seconds of all cores of a host for the rank's experts.
  private(set) var forward: [[Double]] = []
  private(set) var backward: [[Double]] = []
  /// `[R]`: rows that a rank computes.
  private(set) var rankRows: [Double]
  let dropRate: Double

  init(
    chances: [Double], model: ModelShape, workload: Workload, placement: PlacementRule, topology: Topology,
    clock: ExpertClock
  ) {
    let split = topology.split
    let order = ExpertOrder(placement, chances: chances, partCount: split.expertParallel)
    let ordered = order.experts.map { chances[$0] }
    let drawn = ExpertRows(
      workload, chances: ordered, expertsPerToken: model.expertsPerToken, groupCount: split.dataParallel)
    dropRate = drawn.dropRate
    let choices = ChoiceModel(chances: ordered, expertsPerToken: model.expertsPerToken)
    rankRows = Array(repeating: 0, count: topology.rankCount)
    for slice in 0..<split.overlap {
      let ranges = order.parts.indices.map { order.slice(slice, of: split.overlap, part: $0) }
      tokens.append(
        zip(order.parts, ranges).map { part, range in
          choices.chance(ofAny: part.lowerBound..<range.upperBound, kept: drawn.kept)
            - choices.chance(ofAny: part.lowerBound..<range.lowerBound, kept: drawn.kept)
        })
      rows.append(ranges.map { $0.reduce(0) { $0 + ordered[$1] * drawn.kept[$1] } })
      var (forward, backward) = (rankRows.map { _ in 0.0 }, rankRows.map { _ in 0.0 })
      for group in 0..<split.dataParallel {
        for (part, range) in ranges.enumerated() {
          var (count, seconds) = (0.0, (forward: 0.0, backward: 0.0))
          for expert in range {
            let rows = drawn.rows[group][expert]
            let time = clock.seconds(rows: rows)
            count += rows
            seconds.forward += time.forward
            seconds.backward += time.backward
          }
          let first = topology.ranks(ofGroup: group).lowerBound + part * split.tensorParallel
          for rank in first..<first + split.tensorParallel {
            rankRows[rank] += count
            forward[rank] = seconds.forward
            backward[rank] = seconds.backward
          }
        }
      }
      self.forward.append(forward)
      self.backward.append(backward)
    }
  }
}
