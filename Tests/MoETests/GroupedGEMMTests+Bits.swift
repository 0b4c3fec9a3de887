import CKernels
import MoE
import MoECore
import TestSupport
import Testing

/// The results have the same bits for any number of threads, and a row has the same bits beside any other rows.
extension GroupedGEMMTests {
  @Test func bitsDoNotDependOnThreads() {
    checkProperty(seeds: 1000..<1100, of: GroupedCase.init(seed:)) { groupedCase in
      let (experts, x, hidden) = groupedCase.problem()
      let groups = groupedCase.groups
      for isa in InstructionSet.supported {
        let gemm = GroupedGEMM(isa, groupedCase.type, experts: experts, activation: groupedCase.activation)
        let tiles = gemm.up(x, groups: groups, threads: 1).memory.elements
        let y = gemm.down(hidden, groups: groups, threads: 1).matrix
        for threads in threadCounts.dropFirst() {
          try ensure(
            gemm.up(x, groups: groups, threads: threads).memory.elements == tiles,
            "h has other bits on \(isa) with \(threads) threads")
          try ensure(
            gemm.down(hidden, groups: groups, threads: threads).matrix == y,
            "y has other bits on \(isa) with \(threads) threads")
        }
      }
    }
  }

  /// Computes the rows of one expert together, one by one, in two unequal parts, and in reverse order. Tiles of every
  /// height add in the same order, with K in one block or in several.
  @Test(
    arguments: [MOE_FLOAT32, MOE_BFLOAT16], [(13, 33, 48), (30, 70, 17), (25, 1100, 40), (26, 40, 1100)])
  func bitsOfARowDoNotDependOnItsNeighbours(_ type: moe_format, _ sizes: (Int, Int, Int)) {
    let (count, hiddenSize, feedForwardSize) = sizes
    let whole = GroupedCase(
      rows: [count], hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, activation: .swiGLU,
      isNarrow: type == MOE_BFLOAT16)
    let (experts, x, hidden) = whole.problem()
    for isa in InstructionSet.supported {
      let gemm = GroupedGEMM(isa, type, experts: experts, activation: .swiGLU)
      let tiles = gemm.up(x, groups: Groups(rows: [count]))
      let y = gemm.down(hidden, groups: Groups(rows: [count])).matrix
      let all = Array(0..<count)
      for part in all.map({ [$0] }) + [Array(all[..<5]), Array(all[5...]), all.reversed()] {
        let groups = Groups(rows: [part.count])
        let partTiles = gemm.up(rows(part, of: x), groups: groups)
        let partY = gemm.down(rows(part, of: hidden), groups: groups).matrix
        for (position, row) in part.enumerated() {
          #expect(
            bits(partTiles.row(position)) == bits(tiles.row(row)), "h of row \(row) among \(part) on \(isa)")
        }
        #expect(partY == rows(part, of: y), "y of \(part) on \(isa)")
      }
    }
  }

  private func rows(_ indices: [Int], of matrix: Matrix) -> Matrix {
    var selected = Matrix(rows: indices.count, columns: matrix.columns)
    for (position, row) in indices.enumerated() {
      for column in 0..<matrix.columns { selected[position, column] = matrix[row, column] }
    }
    return selected
  }
}
