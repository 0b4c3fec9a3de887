import MoECore
import TestSupport
import Testing

/// Tests of the test tools themselves: if they were broken, the other tests could pass for wrong code.
@Suite struct SupportTests {
  private struct Size: Shrinkable {
    var value: Int
    var smaller: [Size] { value > 1 ? [Size(value: value / 2), Size(value: value - 1)] : [] }
  }

  @Test func propertyThatHoldsRecordsNothing() {
    checkProperty(seeds: 0..<10) { example in try ensure(example.tokenCount > 0, "no tokens") }
  }

  @Test func failureIsShrunkAndNamesItsSeed() {
    withKnownIssue {
      checkProperty(seeds: [100, 7], of: { Size(value: Int($0)) }) { size in
        try ensure(size.value < 13, "\(size.value) is too much")
      }
    } matching: { issue in
      let text = issue.comments.map(\.rawValue).joined()
      return text.contains("seeds: [100]") && text.contains("Size(value: 13)")
        && text.contains("where: 13 is too much")
    }
  }

  @Test func casesAreReproducibleAndPossible() throws {
    for seed in UInt64(0)..<200 {
      let (first, second) = (LayerCase(seed: seed), LayerCase(seed: seed))
      #expect(first == second)
      let (one, other) = (try first.problem(), try second.problem())
      #expect(one.weights == other.weights && one.input == other.input && one.mask == other.mask)
      for smaller in first.smaller { _ = try smaller.configuration() }
    }
  }

  @Test func casesReachEveryTemperamentAndScoring() {
    let cases = (UInt64(0)..<200).map(LayerCase.init(seed:))
    #expect(Set(cases.map(\.temperament)) == Set(Temperament.allCases))
    for activation in ActivationFunction.samples {
      #expect(cases.contains { $0.activation == activation })
    }
    #expect(cases.contains { $0.policy.groups != nil } && cases.contains { $0.policy.capacity != nil })
  }

  @Test func temperamentsRouteAsTheySay() throws {
    func firstChoices(_ temperament: Temperament) throws -> [Int] {
      let example = LayerCase(
        seed: 5, tokenCount: 64, expertCount: 8, expertsPerToken: 2, hiddenSize: 16, feedForwardSize: 1,
        temperament: temperament)
      let problem = try example.problem()
      let router = problem.weights.routerWeights
      var counts = Array(repeating: 0, count: 8)
      for token in 0..<64 {
        let logits = (0..<8).map { expert in
          (0..<16).reduce(router.bias?[expert] ?? 0) { sum, column in
            sum + problem.input.tokens[token, column] * router.weight[expert, column]
          }
        }
        counts[logits.firstIndex(of: logits.max()!)!] += 1
      }
      return counts
    }
    #expect(try firstChoices(.allToOne).contains(64))
    #expect(try firstChoices(.skewed).max()! > 32)
    #expect(try firstChoices(.emptyExpert).contains(0))
    let ties = try firstChoices(.ties)
    #expect(stride(from: 1, to: 8, by: 2).allSatisfy { ties[$0] == 0 })
  }

  @Test(arguments: [0, 3], [0, 1])
  func fencesSeeStoresOutsideTheBody(padding: Int, misalignment: Int) {
    let buffer = FencedBuffer(rows: 2, columns: 5, padding: padding, misalignment: misalignment)
    #expect(buffer.fencesIntact && buffer.unwrittenCount == 10)
    unsafe buffer.base[buffer.stride + 4] = 1
    #expect(buffer.fencesIntact && buffer.unwrittenCount == 9 && buffer[1, 4] == 1)
    let last = buffer.stride + 5
    for position in padding > 0 ? [-1, 5, last] : [-1, last] {
      let before = unsafe buffer.base[position]
      unsafe buffer.base[position] = 0
      #expect(!buffer.fencesIntact)
      unsafe buffer.base[position] = before
      #expect(buffer.fencesIntact)
    }
  }

  @Test func fencedBufferHoldsMatrix() {
    let matrix = Activations.random([3, 4], seed: 1).tokens
    let buffer = FencedBuffer(matrix, padding: 2, misalignment: 1)
    #expect(buffer.matrix == matrix && buffer.fencesIntact && buffer.unwrittenCount == 0)
  }

  @Test func chainOfFMAsStaysWithinItsBound() {
    for seed in UInt64(0)..<50 {
      var generator = SeededGenerator(seed: seed)
      let a = generator.normals(257, deviation: 1)
      let b = generator.normals(257, deviation: 1)
      var (chain, exact, magnitude) = (Float(0), 0.0, 0.0)
      for k in a.indices {
        chain = chain.addingProduct(a[k], b[k])
        exact += Double(a[k]) * Double(b[k])
        magnitude += abs(Double(a[k]) * Double(b[k]))
      }
      let bound = Tolerance.fmaChain(257, magnitude: magnitude)
      #expect(Tolerance.agree(Double(chain), exact, within: bound))
      #expect(!Tolerance.agree(Double(chain) + 2 * bound, exact, within: bound))
    }
  }

  @Test func relativeRMSIsScaleFreeAndSeesNaN() {
    #expect(abs(Tolerance.relativeRMS([3e-200, 4.4e-200], [3e-200, 4e-200]) - 0.08) < 1e-12)
    #expect(Tolerance.relativeRMS([0, 0], [0, 0]) == 0)
    #expect(Tolerance.relativeRMS([0, 1], [0, 0]) == .infinity)
    #expect(Tolerance.relativeRMS([.nan], [1]) == .infinity)
  }
}
