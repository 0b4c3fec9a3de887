import MoECore
import MoEReference
import TestSupport
import Testing

/// Tests of each stage of the backward pass alone, for inputs whose gradients are known.
@Suite struct StageGradientsTests {
  private var generator = SeededGenerator(seed: 31)

  private mutating func table(_ rows: Int, _ columns: Int) -> [[Double]] {
    (0..<rows).map { _ in generator.normals(columns, deviation: 1).map(Double.init) }
  }

  private func dot(_ a: [[Double]], _ b: [[Double]]) -> Double {
    zip(a, b).reduce(0) { sum, rows in sum + zip(rows.0, rows.1).reduce(0) { $0 + $1.0 * $1.1 } }
  }

  @Test(arguments: ActivationFunction.samples + [.clampedSwiGLU(alpha: 1.702, limit: 0.5)])
  func slopesOfActivations(function: ActivationFunction) throws {
    var judge = DifferenceJudge()
    // No tested point is a kink. The kinks are 0 for relu and ±limit for the clamps.
    for g in [-30, -4, -1, -0.25, 0.125, 0.75, 2, 6.5, 9] {
      for u in [-9, -6.5, -1, -0.25, 0.125, 0.75, 2, 6.5, 30] {
        let slopes = Reference.activationBackward(function, gate: g, up: u)
        try judge.compare(slopes.gate, magnitude: 1, "gate at \(g), \(u)") {
          Reference.activation(function, gate: g + $0, up: u)
        }
        try judge.compare(slopes.up, magnitude: 1, "up at \(g), \(u)") {
          Reference.activation(function, gate: g, up: u + $0)
        }
      }
    }
    #expect(judge.skipped == 0)
  }

  /// A kink has no derivative; this test fixes the values that the code uses there.
  @Test func slopesAtKinks() {
    #expect(Reference.activationBackward(.relu, gate: 0, up: 0) == (0, 0))
    let clamped = ActivationFunction.clampedSwiGLU(alpha: 1, limit: 2)
    let inside = Reference.activationBackward(clamped, gate: 2, up: 2)
    #expect(inside.gate != 0 && inside.up != 0)
    #expect(Reference.activationBackward(clamped, gate: 2.5, up: 2.5) == (0, 0))
    #expect(Reference.activationBackward(clamped, gate: 0.5, up: -2.5).up == 0)
    #expect(Reference.activationBackward(clamped, gate: -9, up: 0).gate != 0)
  }

  /// Combine is linear in y and in w, so its backward is its adjoint: ⟨G, combine(y, w)⟩ = ⟨∂y, y⟩ = ⟨∂w, w⟩.
  /// Gather is linear in x and, with weights on the input, in w.
  @Test func combineAndGatherHaveTheirAdjoints() throws {
    var test = self
    let ids = [[0, 2], [2, 1], [0, 1], [2, 0], [-1, -1]]
    let (w, x, outputGradient) = (test.table(5, 2), test.table(5, 3), test.table(5, 3))
    let permutation = Reference.permutation(
      expertIDs: ids, keys: w, expertCount: 4, capacity: 2, scopeLength: 5)
    let rowCount = permutation.rowToken.count
    #expect(rowCount == 6)
    let (y, rowGradient) = (test.table(rowCount, 3), test.table(rowCount, 3))
    for placement in [RoutingPolicy.WeightPlacement.output, .input] {
      let combined = Reference.combine(
        y, permutation: permutation, weights: w, hiddenSize: 3, placement: placement)
      let back = Reference.combineBackward(
        y, permutation: permutation, weights: w, placement: placement, outputGradient: outputGradient)
      let z = Reference.gather(x, permutation: permutation, weights: w, placement: placement)
      let scattered = Reference.gatherBackward(
        x, permutation: permutation, weights: w, placement: placement, rowGradient: rowGradient)
      let (value, weighted) = (dot(outputGradient, combined), dot(rowGradient, z))
      #expect(abs(dot(back.rows, y) - value) < 1e-12)
      #expect(abs(dot(scattered.x, x) - weighted) < 1e-12)
      #expect(abs(dot(back.weights, w) - (placement == .output ? value : 0)) < 1e-12)
      #expect(abs(dot(scattered.weights, w) - (placement == .input ? weighted : 0)) < 1e-12)
      for token in ids.indices {
        for choice in 0..<2 where permutation.slots[token][choice] < 0 {
          #expect(back.weights[token][choice] == 0 && scattered.weights[token][choice] == 0)
        }
      }
    }
  }

  /// The odds are 4 : 2 : 1 : 1, so the weights are 0.5 and 0.25. The second choice was dropped, so its dL/dw is 0.
  @Test func aDroppedChoiceIsStillPartOfTheSum() {
    let logits = [[ln(4), ln(2), 0, 0]]
    func gradient(_ normalization: RoutingPolicy.Normalization) -> [Double] {
      Reference.routerBackward(
        logits: logits, expertIDs: [[0, 1]],
        policy: RoutingPolicy(scoring: .softmax, normalization: normalization), weightGradient: [[1, 0]])[0]
    }
    func expectEqual(_ actual: [Double], _ expected: [Double]) {
      #expect(zip(actual, expected).allSatisfy { abs($0 - $1) < 1e-15 }, "\(actual) is not \(expected)")
    }
    // w₀ = p₀/(p₀ + p₁) = σ(l₀ − l₁) does not depend on the other two experts.
    expectEqual(gradient(.sum(plus: 0)), [2.0 / 9, -2.0 / 9, 0, 0])
    expectEqual(gradient(.sumAtLeast(0.25)), [2.0 / 9, -2.0 / 9, 0, 0])
    // w₀ = p₀, without normalisation or divided by a floor of 1 that the sum does not reach.
    expectEqual(gradient(.none), [0.25, -0.125, -0.0625, -0.0625])
    expectEqual(gradient(.sumAtLeast(1)), [0.25, -0.125, -0.0625, -0.0625])
  }

  @Test(arguments: StagesTests.scorings)
  func aLogitOfMinusInfinityHasNoGradient(scoring: RoutingPolicy.Scoring) {
    let logits: [[Double]] = [[-.infinity, 1, -.infinity, 0.5]]
    for normalization in StagesTests.normalizations {
      let policy = RoutingPolicy(scoring: scoring, normalization: normalization)
      let gradient = Reference.routerBackward(
        logits: logits, expertIDs: [[1, 3, 0]], policy: policy, weightGradient: [[1, 2, 3]])[0]
      #expect(gradient.allSatisfy(\.isFinite) && gradient[0] == 0 && gradient[2] == 0, "\(gradient)")
    }
    let loss = Reference.RouterLoss(
      value: 0, probabilityGradient: [[1, 2, 3, 4]], logSumExpGradient: [1])
    let ofLoss = Reference.lossBackward(
      loss, logits: logits, expertIDs: [[1]], policy: RoutingPolicy(scoring: scoring))[0]
    #expect(ofLoss.allSatisfy(\.isFinite) && ofLoss[0] == 0 && ofLoss[2] == 0, "\(ofLoss)")
  }

  /// A constant added to all logits does not change the softmax, so the gradients through the softmax add up to 0. It
  /// is added to ln Σ exp(logit) too, so the gradients through that add up to dL/dz.
  @Test func gradientsOfSharesAddUpToNothing() {
    let logits = [[0.5, -1, 2, 0.25]]
    for scoring in [RoutingPolicy.Scoring.softmax, .softmaxOverSelected, .sparseMixer(jitter: 0.5)] {
      let gradient = Reference.routerBackward(
        logits: logits, expertIDs: [[2, 0]], policy: RoutingPolicy(scoring: scoring),
        weightGradient: [[3, -1]])[0]
      #expect(abs(gradient.reduce(0, +)) < 1e-15)
      let loss = Reference.RouterLoss(
        value: 0, probabilityGradient: [[1, 2, 3, 4]], logSumExpGradient: [5])
      let ofLoss = Reference.lossBackward(
        loss, logits: logits, expertIDs: [[2, 0]], policy: RoutingPolicy(scoring: scoring))[0]
      #expect(abs(ofLoss.reduce(0, +) - 5) < 1e-14)
    }
  }
}
