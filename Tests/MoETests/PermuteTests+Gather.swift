import CKernels
import MoE
import MoECore
import TestSupport
import Testing

extension PermuteTests {
  /// Ragged groups: empty groups at both ends and between, one row, and the tile height of each machine minus one and
  /// plus one.
  static let raggedGroups: [[Int]] = [
    [0], [1], [0, 1, 0], [3, 4, 5], [5, 6, 7], [11, 12, 13], [0, 0, 25, 0], [1, 1, 1, 1, 1], [2, 0, 49, 1],
    [13, 0, 0, 24, 7],
  ]

  /// tile[k][row] = weight · x[token][k] bit by bit, and zero in the padding. x holds NaN in every row that is not
  /// gathered; Fences and unwritten rows reveal any other load or store.
  @Test(arguments: InstructionSet.supported, [1, 7, 15, 16, 17, 31, 32, 33, 65])
  func gatherIsTheDefinition(_ isa: InstructionSet, _ depth: Int) throws {
    var generator = SeededGenerator(seed: UInt64(depth))
    for (rows, type) in Self.raggedGroups.flatMap({ rows in [MOE_FLOAT32, MOE_BFLOAT16].map { (rows, $0) } })
    {
      let groups = Groups(rows: rows)
      let order = (0..<groups.rowCount).map { _ in Int32(generator.next() % 9 * 2) }
      let weights = generator.normals(groups.rowCount, deviation: 1)
      let x = FencedBuffer(rows: 18, columns: depth, misalignment: 3)
      for token in Set(order) { for k in 0..<depth { x[Int(token), k] = generator.normal() } }

      for (factors, threads) in [[Float]?.none, weights].flatMap({ f in threadCounts.map { (f, $0) } }) {
        let tiles = RowTiles(isa, type, groups: groups, depth: depth)
        tiles.gather(x, order: order, weights: factors, threads: threads)
        for row in 0..<groups.rowCount {
          let expected = (0..<tiles.paddedDepth).map { k in
            guard k < depth else { return Float(0) }
            let value = x[Int(order[row]), k] * (factors?[row] ?? 1)
            return type == MOE_FLOAT32 ? value : value.nearestBFloat16
          }
          let found = tiles.row(row)
          // A padding zero times a negative weight is −0, which also adds nothing.
          let isRight = found == expected
          try #require(isRight, "row \(row) of \(rows), K \(depth), \(type), \(threads) threads")
        }
        #expect(tiles.memory.fencesIntact)
        #expect(tiles.memory.unwrittenCount == tiles.capacity - tiles.wordCount)
      }
      #expect(x.fencesIntact)
    }
  }

  /// Rounding to bfloat16 on the way into a tile: to nearest even, infinities kept, NaN quiet. The machine's
  /// own conversion flushes denormals to zero.
  @Test(arguments: InstructionSet.supported)
  func gatherRoundsSpecials(_ isa: InstructionSet) throws {
    let specials = PackTests.specials
    let x = FencedBuffer(specials)
    let tiles = RowTiles(isa, MOE_BFLOAT16, groups: Groups(rows: [1]), depth: specials.count)
    tiles.gather(x)
    for (value, found) in zip(specials, tiles.row(0)) {
      let flushes = isa.keepsNarrowRows(MOE_BFLOAT16) && value.isSubnormal
      let expected = flushes ? Float(sign: value.sign, exponent: 0, significand: 0) : value.nearestBFloat16
      #expect(
        found.bitPattern == expected.bitPattern || (flushes && found == expected), "\(value) as \(found)")
    }
  }

  /// Without an order, rows keep their order.
  @Test(arguments: InstructionSet.supported)
  func gatherWithoutOrderIsTheIdentity(_ isa: InstructionSet) {
    var generator = SeededGenerator(seed: 3)
    let x = Matrix.normal(rows: 30, columns: 40, deviation: 1, using: &generator)
    let tiles = RowTiles(isa, MOE_FLOAT32, groups: Groups(rows: [13, 0, 17]), depth: 40)
    tiles.gather(FencedBuffer(x))
    for row in 0..<30 {
      #expect(Array(tiles.row(row).prefix(40)) == (0..<40).map { x[row, $0] })
    }
  }
}
