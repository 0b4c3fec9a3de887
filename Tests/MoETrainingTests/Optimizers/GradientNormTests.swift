import MoE
import MoETraining
import Testing

@Suite struct GradientNormTests {
  private func parameters() throws -> [Parameter] {
    let parameters = [
      try Parameter.test(randomMatrix(600, 64, seed: 1), .panels, name: "experts", group: .expert),
      try Parameter.test(randomMatrix(33, 40, seed: 2), name: "router"),
      try Parameter.test(randomMatrix(1, 7, seed: 3), name: "gain"),
    ]
    for (index, parameter) in parameters.enumerated() {
      let matrix = parameter.matrix
      parameter.setGradient(randomMatrix(matrix.rows, matrix.columns, seed: UInt64(10 + index)))
    }
    return parameters
  }

  private func norm(_ parameters: [Parameter]) -> Double {
    parameters.reduce(0) { sum, parameter in
      parameter.matrix(parameter.tensors[0], in: parameter.gradient).elements.reduce(sum) {
        $0 + Double($1) * Double($1)
      }
    }.squareRoot()
  }

  @Test func normsAreThoseOfTheGroups() throws {
    let parameters = try parameters()
    let found = try GradientNorm(of: parameters, execution: Execution())
    for (found, expected) in [
      (found.all, norm(parameters)), (found.expert, norm([parameters[0]])),
      (found.other, norm(Array(parameters[1...]))),
    ] {
      #expect(abs(found - expected) <= 1e-13 * expected)
    }
  }

  @Test(arguments: [2, 3, 7]) func threadsDoNotChangeABit(threads: Int) throws {
    let parameters = try parameters()
    #expect(
      try GradientNorm(of: parameters, execution: Execution(threadCount: threads))
        == GradientNorm(of: parameters, execution: Execution(threadCount: 1)))
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity]) func aGradientThatIsNoNumberIsNamed(value: Float)
    throws
  {
    let parameters = try parameters()
    var gradient = parameters[0].matrix
    gradient[599, 63] = value
    parameters[0].setGradient(gradient)
    #expect(throws: TrainingError.notFinite(what: "the gradient of experts")) {
      try GradientNorm(of: parameters, execution: Execution())
    }
  }

  @Test func clippingScalesToTheNormAndNeverUp() throws {
    let parameters = try parameters()
    var norms = try GradientNorm(of: parameters, execution: Execution())
    (norms.all, norms.expert, norms.other) = (5, 4, 3)
    func scales(_ norm: Double?, _ byGroup: Bool) -> [Float] {
      let scales = GradientClip(norm: norm, byGroup: byGroup).scales(for: norms)
      return [scales.expert, scales.other]
    }
    #expect(scales(nil, false) == [1, 1])
    #expect(scales(10, false) == [1, 1])
    #expect(scales(1, false) == [0.2, 0.2])
    #expect(scales(3, true) == [0.75, 1])
  }
}

@Suite struct LearningRateScheduleTests {
  private func rates(_ shape: LearningRateSchedule.Shape, warmup: Int, _ steps: [Int], of all: Int)
    -> [Double]
  {
    let schedule = LearningRateSchedule(shape, peak: 2, warmupSteps: warmup, floor: 0.1)
    return steps.map { schedule.rate(at: $0, of: all) }
  }

  private func expect(_ found: [Double], _ expected: [Double]) {
    #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-12 }, "\(found), expected \(expected)")
  }

  @Test(arguments: LearningRateSchedule.Shape.allCases)
  func theWarmUpIsALineToThePeak(shape: LearningRateSchedule.Shape) {
    expect(rates(shape, warmup: 4, [1, 2, 3, 4], of: 100), [0.5, 1, 1.5, 2])
  }

  @Test func afterItEachGoesItsWay() {
    let steps = [10, 55, 100]
    expect(rates(.constant, warmup: 10, steps, of: 100), [2, 2, 2])
    expect(rates(.linear, warmup: 10, steps, of: 100), [2, 1.1, 0.2])
    expect(rates(.cosine, warmup: 10, steps, of: 100), [2, 1.1, 0.2])
    expect(rates(.inverseSquareRoot, warmup: 25, [25, 100], of: 400), [2, 1])
    expect(rates(.inverseSquareRoot, warmup: 0, [1, 4], of: 400), [2, 1])
    #expect(rates(.cosine, warmup: 0, [1], of: 1) == [0.2])
  }
}
