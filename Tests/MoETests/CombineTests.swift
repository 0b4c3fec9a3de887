import CKernels
import MoE
import MoECore
import TestSupport
import Testing

/// A random combination of experts' rows.
struct CombineCase: Shrinkable, CustomStringConvertible {
  let seed: UInt64
  var tokenCount: Int
  var expertsPerToken: Int
  var hiddenSize: Int
  var gateColumns: Int
  var hasBranch: Bool
  var hasWeights: Bool
  var scale: Float

  init(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    self.seed = seed
    tokenCount = generator.pick([0, 1, 2, 15, 16, 17, 33])
    expertsPerToken = Int.random(in: 1...10, using: &generator)
    hiddenSize = Int.random(in: 1...150, using: &generator)
    gateColumns = Int.random(in: 0...2, using: &generator)
    hasBranch = Bool.random(using: &generator)
    hasWeights = Bool.random(using: &generator)
    scale = generator.pick([1, 1, 1e-12, 1e4, 0x1p-133])
  }

  var description: String {
    "seed \(seed): T \(tokenCount) K \(expertsPerToken) D \(hiddenSize), \(gateColumns) gate columns, "
      + "scale \(scale)\(hasBranch ? ", branch" : "")\(hasWeights ? ", weights" : "")"
  }

  var smaller: [CombineCase] {
    let steps: [(inout CombineCase) -> Void] = [
      { $0.tokenCount /= 2 }, { $0.expertsPerToken = max(1, $0.expertsPerToken / 2) },
      { $0.hiddenSize = max(1, $0.hiddenSize / 2) }, { $0.hiddenSize = max(1, $0.hiddenSize - 1) },
      { $0.gateColumns = 0 }, { $0.hasBranch = false }, { $0.hasWeights = false }, { $0.scale = 1 },
    ]
    return steps.compactMap { step in
      var candidate = self
      step(&candidate)
      return candidate != self ? candidate : nil
    }
  }
}

/// `moe_combine` against its definition in Double.
@Suite struct CombineTests {
  @Test func sumIsWithinRounding() {
    checkProperty(seeds: 0..<1500, of: CombineCase.init(seed:), Self.check)
  }

  /// Every width from 1 to 70, so that on each vector machine the last element falls into each lane.
  @Test func everyTail() {
    for width in 1...70 {
      checkProperty(
        seeds: [UInt64(width)],
        of: { seed in
          var combineCase = CombineCase(seed: seed)
          (combineCase.hiddenSize, combineCase.tokenCount) = (width, 3)
          return combineCase
        }, Self.check)
    }
  }

  /// out = a·Σₖ wₖ·yₖ + b·branch: K FMAs, a product with a and one FMA, K + 2 roundings of
  /// |a|·Σ|wₖ·yₖ| + |b·branch|; the underflow of the chain is multiplied by |a|.
  ///
  /// Rows without a choice hold NaN, and so does the weight of a choice without a row. Neither may reach the result.
  private static func check(_ combineCase: CombineCase) throws {
    var generator = SeededGenerator(seed: combineCase.seed ^ 0xC0B1)
    let (t, k, d) = (combineCase.tokenCount, combineCase.expertsPerToken, combineCase.hiddenSize)
    let rowCount = t * k + 2
    var free = Array(Int32(0)..<Int32(rowCount))
    free.shuffle(using: &generator)
    let choiceRow = (0..<t * k).map {
      $0 % k == 0 && generator.next() % 8 == 0 || generator.next() % 4 == 0 ? -1 : free[$0]
    }
    let y = FencedBuffer(rows: rowCount, columns: d)
    for row in choiceRow where row >= 0 {
      for column in 0..<d { y[Int(row), column] = generator.normal() * combineCase.scale }
    }
    let weights = combineCase.hasWeights ? choiceRow.map { $0 < 0 ? Float.nan : generator.normal() } : nil
    let branch =
      combineCase.hasBranch
      ? FencedBuffer(Matrix.normal(rows: t, columns: d, deviation: combineCase.scale, using: &generator))
      : nil
    let gates =
      combineCase.gateColumns > 0 ? generator.normals(t * combineCase.gateColumns, deviation: 1) : nil

    var reference: Matrix?
    for (isa, threads) in InstructionSet.supported.flatMap({ isa in threadCounts.map { (isa, $0) } }) {
      let (rows, factors, gate) = (Fenced(choiceRow), weights.map { Fenced($0) }, gates.map { Fenced($0) })
      let out = FencedBuffer(rows: t, columns: d, misalignment: 3)
      var choices = unsafe moe_choices(
        T: Int64(t), K: Int64(k), D: Int64(d), y: y.base, choice_row: rows.base, weights: factors?.base)
      var dense = unsafe moe_branch(
        rows: branch?.base, gates: gate?.base, gate_columns: Int64(combineCase.gateColumns))
      unsafe moe_combine(isa.threads(threads), &choices, &dense, out.base)
      try ensure(out.fencesIntact && out.unwrittenCount == 0, "a store is missing or outside on \(isa)")
      if threads > 1 {
        try ensure(out.matrix == reference!, "other bits on \(isa) with \(threads) threads")
        continue
      }
      reference = out.matrix
      for token in 0..<t {
        let a = combineCase.gateColumns == 2 ? Double(gates![token * 2]) : 1
        let b =
          combineCase.gateColumns == 0 ? 1 : Double(gates![(token + 1) * combineCase.gateColumns - 1])
        for column in 0..<d {
          var (sum, magnitude) = (0.0, 0.0)
          for choice in token * k..<(token + 1) * k where choiceRow[choice] >= 0 {
            let term = Double(weights?[choice] ?? 1) * Double(y[Int(choiceRow[choice]), column])
            (sum, magnitude) = (sum + term, magnitude + abs(term))
          }
          let dense = branch.map { b * Double($0[token, column]) } ?? 0
          let expected = a * sum + dense
          let bound = Tolerance.fmaChain(k + 2, magnitude: abs(a) * magnitude + abs(dense)) * max(1, abs(a))
          try ensure(
            Tolerance.agree(Double(out[token, column]), expected, within: bound),
            "out[\(token)][\(column)] is \(out[token, column]) on \(isa), expected \(expected) within \(bound)"
          )
        }
      }
    }
    withExtendedLifetime(y) {}
  }
}
