import MoE
import MoEReference

/// Both products of the experts at the peers' shapes, beside one dense OpenBLAS product of the same FLOPs.
enum GroupedGEMMBench: KernelBench {
  static let name = "grouped_gemm"

  static func run(_ session: Session) throws {
    for shape in session.isQuick ? [Shape.all[0]] : Shape.all {
      for precision in Precision.allCases {
        let source = RandomWeights(shape: shape, precision: precision)
        let weights = try KernelWeights(source, execution: session.bestExecution)
        for tokenCount in session.isQuick ? [1, 64] : [1, 16, 512, 2048] {
          try time(tokenCount, weights, source, session)
        }
      }
    }
    if session.isQuick {
      // A short check of the baseline, which the full run times beside S2.
      try time(dense: DenseProduct(rows: 128, columns: 2048, depth: 512), session)
    }
  }

  private static func time(
    _ tokenCount: Int, _ weights: KernelWeights, _ source: RandomWeights, _ session: Session
  ) throws {
    let (shape, precision) = (weights.shape, weights.precision)
    let inputs = randomInputs(tokenCount: tokenCount, shape: shape, precision: precision)
    var oracle = RowOracle(source: source)
    var (up, down): ([Contender], [Contender]) = ([], [])
    var expertsUsed = 0.0
    for instructionSet in session.instructionSets {
      let stages = try LayerStages(weights, inputs: inputs, execution: session.execution(instructionSet))
      stages.dispatch()
      stages.up()
      stages.down()
      let error = oracle.error(of: stages)
      try require(
        error, atMost: shape.tolerance(precision),
        "grouped GEMM \(shape.name) T=\(tokenCount) \(precision) on \(instructionSet)")
      expertsUsed = stages.meanExpertsUsed()
      let arithmetic = Limits.Arithmetic(instructionSet: instructionSet, precision: precision)
      // With one input, all calls use the same rows. With several, each call uses the rows of the next input.
      let takesTurns = inputs.count > 1
      up.append(
        Contender(
          name: instructionSet.rawValue, arithmetic: arithmetic, error: error,
          prepare: {
            guard takesTurns else { return }
            stages.advance()
            stages.dispatch()
          }, run: stages.up))
      down.append(
        Contender(
          name: instructionSet.rawValue, arithmetic: arithmetic, error: error,
          prepare: {
            guard takesTurns else { return }
            stages.advance()
            stages.dispatch()
            stages.up()
          }, run: stages.down))
    }
    let rows = tokenCount * shape.expertsPerToken
    let (hidden, feedForward) = (shape.hiddenSize, shape.feedForwardSize)
    if shape.name == "S2" && tokenCount == 512 && precision == .float32 {
      up.append(
        try DenseProduct(rows: rows, columns: shape.upWeights / hidden, depth: hidden).contender(session))
      down.append(try DenseProduct(rows: rows, columns: hidden, depth: feedForward).contender(session))
    }
    let problem = "\(shape.name) T=\(tokenCount) \(precision)"
    let activations = Double(4 * rows * (hidden + feedForward))
    for (product, contenders, elements) in [("up", up, shape.upWeights), ("down", down, shape.downWeights)] {
      let work = Work(
        flops: 2 * Double(rows * elements),
        bytes: expertsUsed * Double(elements * precision.byteCount) + activations)
      try session.time(bench: name, problem: "\(problem) \(product)", work: work, contenders)
    }
  }

  /// Times the baseline alone.
  private static func time(dense product: DenseProduct, _ session: Session) throws {
    try session.time(
      bench: name, problem: "dense \(product.name)", work: product.work, [product.contender(session)])
  }
}

/// The oracle's rows of the experts' output. Each row is computed once for all instruction sets.
private struct RowOracle {
  let source: RandomWeights
  private var known: [[Int]: [Double]] = [:]

  init(source: RandomWeights) { self.source = source }

  /// Returns the relative RMS error of the first and the last row.
  mutating func error(of stages: LayerStages) -> Double {
    let shape = source.shape
    let last = Int(stages.offsets[shape.expertCount]) - 1
    var (actual, expected) = ([Double](), [Double]())
    for row in Set([0, last]) {
      let expert = stages.expert(ofRow: row)
      let token = Int(stages.rowToken[row])
      let columns = shape.hiddenSize
      actual += stages.rows.elements(row * columns..<(row + 1) * columns).map(Double.init)
      if let row = known[[expert, token]] {
        expected += row
        continue
      }
      let x = (0..<columns).map { Double(stages.input.tokens[token, $0]) }
      let y = Reference.feedForward(
        x, source.expert(expert), activation: shape.activation,
        precision: source.precision == .float32 ? .exact : .bfloat16)
      known[[expert, token]] = y
      expected += y
    }
    return relativeRMS(actual, expected)
  }
}
