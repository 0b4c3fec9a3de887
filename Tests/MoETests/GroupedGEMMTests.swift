import CKernels
import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// A random pair of grouped products: ragged groups, boundary sizes, any activation.
struct GroupedCase: Shrinkable, CustomStringConvertible {
  /// Group sizes: none, one row, and for the tile height of each machine: one less, the height itself, one more, and
  /// one more than twice the height.
  static let groupSizes = [0, 0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 25]
  static let sizes = [1, 2, 15, 16, 17, 31, 32, 33, 48, 65]

  let seed: UInt64
  var rows: [Int]
  var hiddenSize: Int
  var feedForwardSize: Int
  var activation: ActivationFunction
  var hasBiases: Bool
  var isNarrow: Bool
  /// The factor of x, and of the h that the second product gets.
  var scale: Float

  init(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    self.seed = seed
    rows = (0..<Int.random(in: 1...5, using: &generator)).map { _ in generator.pick(Self.groupSizes) }
    hiddenSize = generator.pick(Self.sizes)
    feedForwardSize = generator.pick(Self.sizes)
    activation = generator.pick(ActivationFunction.samples)
    hasBiases = Bool.random(using: &generator)
    isNarrow = Bool.random(using: &generator)
    scale = generator.pick([1, 1, 1, 1e-12, 1e4, 0x1p-133])
  }

  /// Makes a case of given sizes.
  init(rows: [Int], hiddenSize: Int, feedForwardSize: Int, activation: ActivationFunction, isNarrow: Bool) {
    (seed, scale, hasBiases) = (0, 1, true)
    (self.rows, self.hiddenSize, self.feedForwardSize) = (rows, hiddenSize, feedForwardSize)
    (self.activation, self.isNarrow) = (activation, isNarrow)
  }

  var type: moe_format { isNarrow ? MOE_BFLOAT16 : MOE_FLOAT32 }
  var groups: Groups { Groups(rows: rows) }

  var description: String {
    "seed \(seed): rows \(rows) D \(hiddenSize) F \(feedForwardSize) \(activation), "
      + "\(isNarrow ? "bf16" : "f32"), scale \(scale)\(hasBiases ? ", biases" : "")"
  }

  var smaller: [GroupedCase] {
    let steps: [(inout GroupedCase) -> Void] = [
      { $0.rows.removeLast() }, { $0.rows = $0.rows.map { $0 / 2 } }, { $0.hiddenSize /= 2 },
      { $0.feedForwardSize /= 2 }, { $0.hasBiases = false }, { $0.isNarrow = false }, { $0.scale = 1 },
      { $0.activation = .relu },
    ]
    return steps.compactMap { step in
      var candidate = self
      step(&candidate)
      let isPossible =
        !candidate.rows.isEmpty && candidate.hiddenSize > 0 && candidate.feedForwardSize > 0
      return isPossible && candidate != self ? candidate : nil
    }
  }

  /// Returns weights whose scale keeps products near the size of the rows, x [M, D] and h [M, F].
  func problem() -> (experts: [FeedForwardWeights], x: Matrix, hidden: Matrix) {
    var generator = SeededGenerator(seed: seed ^ 0x6E77)
    func matrix(_ rows: Int, _ columns: Int) -> Matrix {
      .normal(rows: rows, columns: columns, deviation: 1 / Float(columns).squareRoot(), using: &generator)
    }
    let experts = rows.map { _ in
      var network = FeedForwardWeights(
        gate: activation.isGated ? matrix(feedForwardSize, hiddenSize) : nil,
        up: matrix(feedForwardSize, hiddenSize), down: matrix(hiddenSize, feedForwardSize))
      if hasBiases {
        if activation.isGated { network.gateBias = generator.normals(feedForwardSize, deviation: 1) }
        network.upBias = generator.normals(feedForwardSize, deviation: 1)
        network.downBias = generator.normals(hiddenSize, deviation: 1)
      }
      return network
    }
    let count = groups.rowCount
    let x = Matrix.normal(rows: count, columns: hiddenSize, deviation: scale, using: &generator)
    let hidden = Matrix.normal(rows: count, columns: feedForwardSize, deviation: scale, using: &generator)
    return (experts, x, hidden)
  }
}

/// Both grouped products against sums in Double, element by element, within the bounds of `Chains`.
@Suite struct GroupedGEMMTests {
  @Test func productsAreWithinRounding() {
    checkProperty(seeds: 0..<500, of: GroupedCase.init(seed:)) { try Self.check($0) }
  }

  /// Tests more rows than one task takes (12 tiles), all rows at one expert, several blocks of K with several tiles,
  /// and more panels than one task takes.
  @Test(arguments: [
    GroupedCase(rows: [49], hiddenSize: 33, feedForwardSize: 48, activation: .swiGLU, isNarrow: false),
    GroupedCase(rows: [0, 73, 1], hiddenSize: 17, feedForwardSize: 48, activation: .geGLU, isNarrow: true),
    GroupedCase(rows: [145, 0, 3], hiddenSize: 48, feedForwardSize: 33, activation: .relu, isNarrow: false),
    GroupedCase(rows: [25, 1], hiddenSize: 1100, feedForwardSize: 17, activation: .swiGLU, isNarrow: false),
    GroupedCase(rows: [25, 1], hiddenSize: 1100, feedForwardSize: 17, activation: .gelu, isNarrow: true),
    GroupedCase(rows: [14, 7], hiddenSize: 40, feedForwardSize: 1100, activation: .relu, isNarrow: false),
    GroupedCase(rows: [14, 7], hiddenSize: 40, feedForwardSize: 1100, activation: .swiGLU, isNarrow: true),
    GroupedCase(
      rows: [13, 5, 2], hiddenSize: 300, feedForwardSize: 290, activation: .swiGLU, isNarrow: false),
  ])
  func blocksJoin(_ large: GroupedCase) throws { try Self.check(large) }

  static func check(_ groupedCase: GroupedCase) throws {
    let (experts, x, hidden) = groupedCase.problem()
    let groups = groupedCase.groups
    for isa in InstructionSet.supported {
      let chains = Chains(isNarrow: groupedCase.isNarrow, flushes: isa.keepsNarrowRows(groupedCase.type))
      let gemm = GroupedGEMM(isa, groupedCase.type, experts: experts, activation: groupedCase.activation)

      let tiles = gemm.up(x, groups: groups)
      try ensure(tiles.memory.fencesIntact, "the first product wrote outside its tiles on \(isa)")
      try ensure(
        tiles.memory.unwrittenCount == tiles.capacity - tiles.wordCount,
        "the first product left an element out or wrote beyond its rows on \(isa)")
      for row in 0..<groups.rowCount {
        let network = experts[groups.group(of: row)]
        let expected = chains.features(x, row: row, network, groupedCase.activation)
        let found = tiles.row(row)
        for (f, (value, bound)) in expected.enumerated() {
          try ensure(
            Tolerance.agree(Double(found[f]), value, within: bound),
            "h[\(row)][\(f)] is \(found[f]) on \(isa), expected \(value) within \(bound)")
          let isRounded = !groupedCase.isNarrow || found[f].bitPattern & 0xFFFF == 0
          try ensure(isRounded, "h[\(row)][\(f)] is \(found[f]) on \(isa), which is no bfloat16")
        }
        try ensure(found[expected.count...].allSatisfy { $0 == 0 }, "padding of h[\(row)] on \(isa)")
      }

      let y = gemm.down(hidden, groups: groups)
      try ensure(y.fencesIntact, "the second product wrote outside y on \(isa)")
      for row in 0..<groups.rowCount {
        let network = experts[groups.group(of: row)]
        let expected = chains.products(hidden, row: row, network.down, bias: network.downBias)
        for (d, (value, bound)) in expected.enumerated() {
          try ensure(
            Tolerance.agree(Double(y[row, d]), value, within: bound),
            "y[\(row)][\(d)] is \(y[row, d]) on \(isa), expected \(value) within \(bound)")
        }
      }
    }
  }
}

/// Dot products in Double with the bounds of their FMA chains.
struct Chains {
  /// Whether operands are rounded to bfloat16, as the oracle rounds them.
  let isNarrow: Bool
  /// Whether the machine uses VDPBF16PS, which treats subnormal operands and sums as zero.
  let flushes: Bool

  /// Computes w·x + b for each row of `weight`: K FMAs and one addition, |error| ≤ γ₍K+1₎·(Σ|w·x| + |b|). A machine
  /// that flushes loses every product with a subnormal operand, and less than 2⁻¹²⁶ with every sum.
  func products(
    _ x: Matrix, row: Int, _ weight: Matrix, bias: [Float]?
  ) -> [(value: Double, bound: Double)] {
    let depth = weight.columns
    let operand = (0..<depth).map { rounded(x[row, $0]) }
    return (0..<weight.rows).map { n in
      var (sum, magnitude) = (Double(bias?[n] ?? 0), Double(abs(bias?[n] ?? 0)))
      var lost = flushes ? Double(depth) * 0x1p-126 : 0
      for k in 0..<depth {
        let factor = rounded(weight[n, k])
        let product = operand[k] * factor
        sum += product
        magnitude += abs(product)
        if flushes, min(abs(operand[k]), abs(factor)) < 0x1p-126 { lost += abs(product) }
      }
      return (sum, Tolerance.fmaChain(depth + 1, magnitude: magnitude) + lost)
    }
  }

  /// Computes h = act(g, u) of the first product. `ActivationBound` says how the errors of g and u pass the activation.
  /// Rounding h to bfloat16 adds 2⁻⁸ of h, even if exact and computed h round to different neighbours, and half of
  /// 2⁻¹³³ if h is subnormal. A machine that flushes may lose all of a subnormal h.
  func features(
    _ x: Matrix, row: Int, _ network: FeedForwardWeights, _ function: ActivationFunction
  ) -> [(value: Double, bound: Double)] {
    let up = products(x, row: row, network.up, bias: network.upBias)
    let gate = network.gate.map { products(x, row: row, $0, bias: network.gateBias) } ?? up
    return zip(gate, up).map { g, u in
      let value = Reference.activation(function, gate: g.value, up: u.value)
      let bound = ActivationBound.propagated(
        function, gate: g.value, up: u.value, gateError: g.bound, upError: u.bound)
      guard isNarrow else { return (value, bound) }
      let subnormal = flushes ? 0x1p-126 : 0x1p-134
      return (value, bound + Tolerance.bfloat16Roundoff * (abs(value) + bound) + subnormal)
    }
  }

  private func rounded(_ value: Float) -> Double {
    isNarrow ? Reference.roundedToBFloat16(Double(value)) : Double(value)
  }
}
