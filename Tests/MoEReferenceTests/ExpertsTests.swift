import MoECore
import MoEReference
import TestSupport
import Testing

/// Tests of activations, bfloat16 and the placement of weights against values computed by hand or by PyTorch.
@Suite struct ExpertsTests {
  private let gptOSS = ActivationFunction.clampedSwiGLU(alpha: 1.702, limit: 7)

  /// alpha is a float, and no float is exactly 1.702. So the tolerance is 10⁻⁷ where the sigmoid is not saturated.
  @Test func gptOSSActivationClampsUpBothWaysAndGateFromAboveOnly() {
    func value(_ g: Double, _ u: Double) -> Double { Reference.activation(gptOSS, gate: g, up: u) }
    #expect(value(0, 3) == 0)
    #expect(value(1, -1) == 0)
    #expect(abs(value(1, 0) - 0.8457957659328212) < 1e-7)
    #expect(value(8, 9) == value(7, 7))
    #expect(value(-8, -9) == value(-8, -7))
    #expect(value(-8, 0) != value(-7, 0))
  }

  @Test(
    arguments: [
      (.relu, -1, 0), (.relu, 2, 2), (.gelu, 1, 0.8413447460685429), (.gelu, -3, -0.0040496940948903),
      (.geluTanh, 1, 0.8411919906082768), (.geluTanh, -3, -0.0036373920817729),
    ] as [(ActivationFunction, Double, Double)])
  func activationWithoutGate(function: ActivationFunction, u: Double, expected: Double) {
    #expect(abs(Reference.activation(function, gate: .nan, up: u) - expected) < 1e-14)
  }

  @Test(
    arguments: [
      (.swiGLU, 1.4621171572600098), (.geGLU, 1.6826894921370859), (.geGLUTanh, 1.6823839812165537),
    ] as [(ActivationFunction, Double)])
  func activationOfGateOneTimesUpTwo(function: ActivationFunction, expected: Double) {
    #expect(abs(Reference.activation(function, gate: 1, up: 2) - expected) < 1e-14)
  }

  @Test func feedForwardIsTwoProductsWithBiases() throws {
    let network = FeedForwardWeights(
      gate: nil, up: try Matrix(rows: 2, columns: 2, elements: [1, 2, -1, -1]),
      down: try Matrix(rows: 2, columns: 2, elements: [1, 10, 2, 20]), upBias: [0.5, 1], downBias: [100, 200])
    // u = (1 + 4 + 0.5, −1 − 2 + 1), and relu sets the second element to 0.
    #expect(Reference.feedForward([1, 2], network, activation: .relu) == [105.5, 211])
  }

  @Test func bfloat16RoundsToNearestEven() {
    let unit = 0x1p-7
    #expect(Reference.roundedToBFloat16(1 + unit / 2) == 1)
    #expect(Reference.roundedToBFloat16(1 + unit * 1.5) == 1 + 2 * unit)
    #expect(Reference.roundedToBFloat16(-(1 + unit * 0.75)) == -(1 + unit))
    #expect(Reference.roundedToBFloat16(1 - 0x1p-9) == 1)
    // Just above the tie: if it were rounded to fp32 first, it would be rounded twice and become 1.
    #expect(Reference.roundedToBFloat16(1 + unit / 2 + 0x1p-40) == 1 + unit)
    #expect(Reference.roundedToBFloat16(0x1p-133) == 0x1p-133)
    #expect(Reference.roundedToBFloat16(0x1p-134) == 0)
    #expect(Reference.roundedToBFloat16(0x1.FEp127) == 0x1.FEp127)
    #expect(Reference.roundedToBFloat16(0x1.FFp127) == .infinity)
    #expect(Reference.roundedToBFloat16(-.infinity) == -.infinity)
    #expect(Reference.roundedToBFloat16(.nan).isNaN)
  }

  /// With one row, one column and no bias, the result can be computed by hand.
  @Test func bfloat16RoundsWeightInputAndHidden() throws {
    let network = FeedForwardWeights(
      gate: nil, up: try Matrix(rows: 1, columns: 1, elements: [1 + 0x1p-9]),
      down: try Matrix(rows: 1, columns: 1, elements: [3]))
    let h = (1 + 0x1p-7) * 1.0
    let x = 1 + 0x1p-7 + 0x1p-10
    #expect(Reference.feedForward([x], network, activation: .relu, precision: .bfloat16) == [3 * h])
    #expect(Reference.feedForward([x], network, activation: .relu) == [3 * x * (1 + 0x1p-9)])
  }

  /// relu is homogeneous, so a positive weight may multiply the input or the output of the expert.
  @Test func weightOnInputScalesBeforeExpert() throws {
    var example = LayerCase(
      seed: 3, tokenCount: 5, expertCount: 4, expertsPerToken: 2, hiddenSize: 6, feedForwardSize: 7,
      policy: RoutingPolicy(scoring: .sigmoid), activation: .relu)
    func output() throws -> [Double] {
      let problem = try example.problem()
      return try Reference.layer(
        problem.input, weights: problem.weights, configuration: problem.configuration
      ).output.flatMap { $0 }
    }
    let behind = try output()
    example.policy.weightPlacement = .input
    #expect(Tolerance.relativeRMS(try output(), behind) < 1e-14)
    example.activation = .gelu
    #expect(Tolerance.relativeRMS(try output(), behind) > 1e-3)
  }

  @Test func maskedTokensGetTheDenseBranchAlone() throws {
    var example = LayerCase(
      seed: 4, tokenCount: 3, expertCount: 2, expertsPerToken: 1, hiddenSize: 4, feedForwardSize: 4)
    example.denseBranch = .shared(feedForwardSize: 5)
    let problem = try example.problem()
    let layer = try Reference.layer(
      problem.input, weights: problem.weights, configuration: problem.configuration,
      mask: [true, false, true])
    let dense = Reference.feedForward(
      Reference.rows(problem.input.tokens)[1], problem.weights.dense!, activation: .swiGLU)
    #expect(layer.output[1] == dense)
  }
}
