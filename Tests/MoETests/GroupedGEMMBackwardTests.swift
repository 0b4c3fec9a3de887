import CKernels
import MoE
import MoECore
import TestSupport
import Testing

/// The products of the backward pass, on fenced memory, against their definitions in Double. The operands are given,
/// and rounded in bfloat16, so the tests judge only chains of multiply-adds.
@Suite struct GroupedGEMMBackwardTests {
  /// Ragged groups with no rows, one row, odd numbers of rows, rows up to the end of a tile, and more rows than a block
  /// of tiles.
  static let groupings = [[1], [0, 5, 0], [13, 1, 24], [2, 0, 7, 33], [150, 11]].map { Groups(rows: $0) }
  /// K and N at the ends of panels and of padding, and beyond a block of K.
  static let sizes = [(1, 1), (16, 15), (17, 33), (31, 48), (70, 330), (700, 40)]

  /// y = dz·W, and y += dz·W, with W [N, K] in the panels of the forward pass.
  @Test(arguments: InstructionSet.supported, [MOE_FLOAT32, MOE_BFLOAT16])
  func rowsAreTheDefinition(_ isa: InstructionSet, _ type: moe_format) throws {
    for (groups, (k, n)) in zip(Self.groupings.cycled(6), Self.sizes) {
      var generator = SeededGenerator(seed: UInt64(k * 1000 + n))
      let dz = operand(groups.rowCount, n, type, &generator)
      let w = (0..<groups.count).map { _ in operand(n, k, type, &generator) }
      let panels = Fenced(w.flatMap { packed($0, type).elements })
      let tiles = RowTiles(isa, type, groups: groups, depth: (n + 15) / 16 * 16)
      tiles.gather(FencedBuffer(widened(dz, to: (n + 15) / 16 * 16)))
      let offsets = Fenced(groups.wide)
      for isAdded in [false, true] {
        var results: [Matrix] = []
        for threads in threadCounts {
          let ex = isa.threads(threads)
          let y = try FencedBuffer(
            Matrix(
              rows: groups.rowCount, columns: k,
              elements: Array(repeating: 0.75, count: groups.rowCount * k)), misalignment: 3)
          let scratch = Fenced.scratch(moe_grouped_gemm_scratch_bytes(ex))
          unsafe moe_grouped_gemm_backward(
            ex, type, moe_groups(E: Int64(groups.count), offsets: offsets.base), tiles.cValue, panels.raw,
            Int64(k), isAdded, y.base, scratch.raw)
          #expect(y.fencesIntact && scratch.fencesIntact && panels.fencesIntact && tiles.memory.fencesIntact)
          results.append(y.matrix)
        }
        #expect(results.allSatisfy { $0 == results[0] }, "bits depend on threads")
        for row in 0..<groups.rowCount {
          let weights = w[groups.group(of: row)]
          for column in 0..<k {
            let terms = (0..<n).map { Double(dz[row, $0]) * Double(weights[$0, column]) }
            let start = isAdded ? 0.75 : 0
            let bound = Tolerance.fmaChain(n + 1, magnitude: terms.reduce(start) { $0 + abs($1) })
            try #require(
              Tolerance.agree(Double(results[0][row, column]), terms.reduce(start, +), within: bound),
              "row \(row), column \(column) of \(groups.offsets), K \(k), N \(n)")
          }
        }
      }
    }
  }

  /// w[n][k] += Σ rows[m][k]·dz[m][n], in one part and in two.
  @Test(arguments: InstructionSet.supported, [MOE_FLOAT32, MOE_BFLOAT16])
  func weightGradientsAreTheDefinition(_ isa: InstructionSet, _ type: moe_format) throws {
    for (groups, (k, n)) in zip(Self.groupings.cycled(6), Self.sizes) {
      var generator = SeededGenerator(seed: UInt64(k * 1000 + n + 1))
      let x = operand(groups.rowCount, k, type, &generator)
      let dz = operand(groups.rowCount, n, type, &generator)
      let panels = (n + 31) / 32 * 2
      let panelFloats = (k + 31) / 32 * 32 * 16
      var results: [[Float]] = []
      for threads in threadCounts {
        let sums = Fenced<Float>(Array(repeating: 0, count: groups.count * panels * panelFloats))
        add(x, dz, groups, isa, type, threads, panels: panels, to: sums)
        results.append(sums.elements)
      }
      #expect(results.allSatisfy { bits($0) == bits(results[0]) }, "bits depend on threads")
      for group in 0..<groups.count {
        let rows = groups.offsets[group]..<groups.offsets[group + 1]
        for column in 0..<panels * 16 {
          for depth in 0..<panelFloats / 16 {
            let isInside = column < n && depth < k
            let terms = isInside ? rows.map { Double(x[$0, depth]) * Double(dz[$0, column]) } : []
            let at = (group * panels + column / 16) * panelFloats + depth * 16 + column % 16
            try #require(
              Tolerance.agree(
                Double(results[0][at]), terms.reduce(0, +),
                within: Tolerance.fmaChain(rows.count, magnitude: terms.reduce(0) { $0 + abs($1) })),
              "group \(group) of \(groups.offsets), n \(column) of \(n), k \(depth) of \(k)")
          }
        }
      }
      // The first part has an odd number of rows, so pairs of rows begin at other places.
      let parts = Fenced<Float>(Array(repeating: 0, count: groups.count * panels * panelFloats))
      let cut = (0..<groups.count).map { min(3, groups.offsets[$0 + 1] - groups.offsets[$0]) }
      for isFirst in [true, false] {
        let chosen = (0..<groups.count).flatMap { group in
          let rows = groups.offsets[group]..<groups.offsets[group + 1]
          return isFirst ? Array(rows.prefix(cut[group])) : Array(rows.dropFirst(cut[group]))
        }
        let sizes = (0..<groups.count).map { group in
          isFirst ? cut[group] : groups.offsets[group + 1] - groups.offsets[group] - cut[group]
        }
        add(
          selected(chosen, of: x), selected(chosen, of: dz), Groups(rows: sizes), isa, type, 2,
          panels: panels, to: parts)
      }
      #expect(parts.elements == results[0], "bits depend on the parts of a batch")
    }
  }

  private func add(
    _ x: Matrix, _ dz: Matrix, _ groups: Groups, _ isa: InstructionSet, _ type: moe_format, _ threads: Int32,
    panels: Int, to sums: Fenced<Float>
  ) {
    let rows = RowTiles(isa, type, groups: groups, depth: x.columns)
    rows.gather(FencedBuffer(x))
    let gradients = RowTiles(isa, type, groups: groups, depth: panels * 16)
    gradients.gather(FencedBuffer(widened(dz, to: panels * 16)))
    let offsets = Fenced(groups.wide)
    let scratch = Fenced.scratch(
      moe_grouped_gemm_weights_scratch_bytes(
        isa.machine, type, Int64(groups.rowCount), Int64(groups.count), Int64(x.columns),
        Int64(panels * 16)))
    unsafe moe_grouped_gemm_weights(
      isa.threads(threads), type, moe_groups(E: Int64(groups.count), offsets: offsets.base), nil,
      rows.cValue, gradients.cValue, sums.base, scratch.raw)
    #expect(sums.fencesIntact && scratch.fencesIntact)
    #expect(rows.memory.fencesIntact && gradients.memory.fencesIntact)
  }

  private func operand(
    _ rows: Int, _ columns: Int, _ type: moe_format, _ generator: inout SeededGenerator
  ) -> Matrix {
    var matrix = Matrix.normal(rows: rows, columns: columns, deviation: 1, using: &generator)
    guard type == MOE_BFLOAT16 else { return matrix }
    for row in 0..<rows {
      for column in 0..<columns { matrix[row, column] = matrix[row, column].nearestBFloat16 }
    }
    return matrix
  }

  /// Returns the matrix with columns of zeros added up to `width`.
  private func widened(_ matrix: Matrix, to width: Int) -> Matrix {
    var result = Matrix(rows: matrix.rows, columns: width)
    for row in 0..<matrix.rows {
      for column in 0..<matrix.columns { result[row, column] = matrix[row, column] }
    }
    return result
  }

  private func selected(_ rows: [Int], of matrix: Matrix) -> Matrix {
    var result = Matrix(rows: rows.count, columns: matrix.columns)
    for (position, row) in rows.enumerated() {
      for column in 0..<matrix.columns { result[position, column] = matrix[row, column] }
    }
    return result
  }
}

extension Array {
  /// Returns `count` elements, by repeating the array.
  fileprivate func cycled(_ count: Int) -> [Element] { (0..<count).map { self[$0 % self.count] } }
}
