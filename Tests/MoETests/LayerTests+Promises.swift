import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// A layer's promises beside correct values: shapes, bits, masks, and errors that name the cause.
extension LayerTests {
  /// The seed example: batch 4, sequence 16, hidden 512, two of eight experts.
  @Test func seedExampleKeepsShapeAndMatchesOracle() throws {
    let top2 = try Top2Layer(hiddenSize: 512, feedForwardSize: 2048, expertCount: 8, seed: 1)
    let single = try SwitchLayer(hiddenSize: 512, feedForwardSize: 2048, expertCount: 8, seed: 2)
    let input = Activations.random([4, 16, 512], seed: 3)
    for (layer, seed) in [(top2.layer, UInt64(1)), (single.layer, 2)] {
      let (output, record) = try layer(input)
      #expect(output.shape == [4, 16, 512])
      #expect(record.loadBalanceLoss.isFinite && record.loadBalanceLoss >= 0.9)
      #expect(record.routerZLoss.isFinite && record.droppedCount == 0)
      let problem = LayerProblem(
        configuration: layer.configuration, weights: .random(for: layer.configuration, seed: seed),
        input: input)
      let expected = try expectation(problem, following: record)
      let error = Tolerance.relativeRMS(
        output.tokens.elements.map(Double.init), expected.output.flatMap { $0 })
      #expect(error <= Self.bound(layer.configuration, .float32).relative, "relative RMS error \(error)")
    }
    #expect(try top2(input).output == top2.layer(input).output)
    #expect(try single(input).output == single.layer(input).output)
  }

  @Test(arguments: Precision.allCases)
  func bitsDoNotDependOnThreads(_ precision: Precision) {
    checkProperty(seeds: 500..<560) { layerCase in
      let problem = try layerCase.problem()
      let layer = try MoELayer(problem.configuration, weights: problem.weights, precision: precision)
      for isa in InstructionSet.supported {
        let runs = try threadCounts.map {
          try layer(
            problem.input, mask: problem.mask,
            execution: Execution(instructionSet: isa, threadCount: Int($0)))
        }
        for run in runs {
          try ensure(run.output == runs[0].output, "output of other bits on \(isa)")
          try ensure(run.record == runs[0].record, "record of other bits on \(isa)")
        }
      }
    }
  }

  /// Without a capacity a token's output has the same bits in any batch, and the integers of two halves add up.
  @Test(arguments: Precision.allCases)
  func bitsDoNotDependOnTheBatch(_ precision: Precision) {
    checkProperty(seeds: 600..<680) { original in
      var layerCase = original
      layerCase.policy.capacity = nil
      // Random choices depend on a token's place in the batch.
      layerCase.policy.choice = .best
      let problem = try layerCase.problem()
      let layer = try MoELayer(problem.configuration, weights: problem.weights, precision: precision)
      let count = problem.input.tokenCount
      for isa in InstructionSet.supported {
        let execution = try Execution(instructionSet: isa, threadCount: 2)
        func run(_ tokens: Range<Int>) throws -> (output: Activations, record: RoutingRecord) {
          try layer(
            rows(tokens, of: problem.input), mask: problem.mask.map { Array($0[tokens]) },
            execution: execution)
        }
        let whole = try run(0..<count)
        for cut in Set([1, count / 3, count - 1]) where cut > 0 {
          let (left, right) = (try run(0..<cut), try run(cut..<count))
          try ensure(
            bits(left.output.tokens.elements + right.output.tokens.elements)
              == bits(whole.output.tokens.elements), "other bits on \(isa) when cut at \(cut)")
          let sums = { (a: [Int64], b: [Int64]) in zip(a, b).map(+) }
          try ensure(
            sums(left.record.counts, right.record.counts) == whole.record.counts
              && sums(left.record.firstChoiceCounts, right.record.firstChoiceCounts)
                == whole.record.firstChoiceCounts
              && sums(left.record.probabilitySums, right.record.probabilitySums)
                == whole.record.probabilitySums,
            "integers do not add up on \(isa) when cut at \(cut)")
        }
      }
    }
  }

  /// Padding changes nothing for the other tokens. A padding token gets only the dense branch.
  @Test func maskedBatchIsTheUnpaddedBatch() {
    checkProperty(seeds: 700..<800) { original in
      var layerCase = original
      (layerCase.policy.capacity, layerCase.isMasked) = (nil, true)
      layerCase.policy.choice = .best
      let problem = try layerCase.problem()
      let mask = problem.mask!
      let layer = try MoELayer(problem.configuration, weights: problem.weights)
      let kept = mask.indices.filter { mask[$0] }
      for isa in InstructionSet.supported {
        let execution = try Execution(instructionSet: isa, threadCount: 2)
        let padded = try layer(problem.input, mask: mask, execution: execution)
        let unpadded = try layer(rows(kept, of: problem.input), execution: execution)
        try ensure(
          rows(kept, of: padded.output).tokens == unpadded.output.tokens, "other outputs on \(isa)")
        try ensure(
          padded.record.counts == unpadded.record.counts
            && padded.record.probabilitySums == unpadded.record.probabilitySums
            && padded.record.routedTokenCount == kept.count
            && padded.record.loadBalanceLoss == unpadded.record.loadBalanceLoss, "other counts on \(isa)")
        for token in mask.indices where !mask[token] && layerCase.denseBranch == nil {
          try ensure(
            rows([token], of: padded.output).tokens.elements.allSatisfy { $0 == 0 },
            "masked token \(token) has an output on \(isa)")
        }
      }
    }
  }

  /// A NaN in a masked token reaches no other token.
  @Test(arguments: InstructionSet.supported)
  func maskedNaNStaysAlone(_ isa: InstructionSet) throws {
    let layer = try Top2Layer(hiddenSize: 20, feedForwardSize: 12, expertCount: 3)
    var input = Activations.random([5, 20], seed: 1)
    let execution = try Execution(instructionSet: isa, threadCount: 2)
    let mask = [true, true, false, true, true]
    let clean = try layer(input, mask: mask, execution: execution)
    input.tokens[2, 7] = .nan
    let dirty = try layer(input, mask: mask, execution: execution)
    #expect(dirty.output == clean.output && dirty.record == clean.record)
  }

  @Test func errorsNameTheCulprit() throws {
    let configuration = try MoEConfiguration(
      hiddenSize: 8, feedForwardSize: 4, expertCount: 3, expertsPerToken: 2)
    let weights = MoEWeights.random(for: configuration, seed: 1)
    let layer = try MoELayer(configuration, weights: weights)

    #expect(throws: MoEError.shapeMismatch(what: "the input", expected: [2, 8], actual: [2, 9])) {
      try layer(Activations.random([2, 9], seed: 1))
    }
    #expect(throws: MoEError.shapeMismatch(what: "the token mask", expected: [2], actual: [1])) {
      try layer(Activations.random([2, 8], seed: 1), mask: [true])
    }
    for value in [Float.nan, .infinity, -.infinity] {
      var input = Activations.random([70, 8], seed: 1)
      (input.tokens[69, 3], input.tokens[52, 7]) = (value, value)
      #expect(throws: MoEError.notFinite(what: "the router logit", token: 52)) { try layer(input) }
    }
    #expect(throws: MoEError.self) {
      try MoEConfiguration(hiddenSize: 8, feedForwardSize: 4, expertCount: 3, expertsPerToken: 4)
    }
    var missing = weights
    missing.experts.removeLast()
    #expect(
      throws: MoEError.invalidConfiguration("expert 2 is missing: the weights have 2 experts")
    ) { try MoELayer(configuration, weights: missing) }
    var misshapen = weights
    misshapen.experts[1].down = Matrix(rows: 4, columns: 8)
    #expect(
      throws: MoEError.shapeMismatch(
        what: "the down projection of expert 1", expected: [8, 4], actual: [4, 8])
    ) { try MoELayer(configuration, weights: misshapen) }
  }

  @Test(arguments: Precision.allCases)
  func noTokensGiveAnEmptyOutput(_ precision: Precision) throws {
    let configuration = try MoEConfiguration(
      hiddenSize: 8, feedForwardSize: 4, expertCount: 3, expertsPerToken: 2,
      denseBranch: .residual(feedForwardSize: 5))
    let layer = try MoELayer(
      configuration, weights: MoEWeights.random(for: configuration, seed: 1), precision: precision)
    let (output, record) = try layer(Activations.random([2, 0, 8], seed: 1))
    #expect(output.shape == [2, 0, 8] && output.tokens.count == 0)
    #expect(record.counts == [0, 0, 0] && record.loadBalanceLoss == 0 && record.routerZLoss == 0)
  }
}

/// Returns some tokens as a separate batch of one sequence.
private func rows(_ tokens: some Collection<Int>, of input: Activations) throws -> Activations {
  let width = input.tokens.columns
  let elements = tokens.flatMap { token in (0..<width).map { input.tokens[token, $0] } }
  return try Activations(
    shape: [tokens.count, width],
    tokens: Matrix(rows: tokens.count, columns: width, elements: elements))
}
