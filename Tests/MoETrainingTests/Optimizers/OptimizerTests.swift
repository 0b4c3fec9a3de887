import MoE
import MoETraining
import Testing

@Suite struct OptimizerTests {
  private static let steps = 6
  private static let rate = 0.01
  private static let scale: Float = 0.25

  /// Every rule, with its options.
  static let rules: [OptimizerConfiguration] = {
    var nesterov = OptimizerConfiguration(.sgd, weightDecay: 0.3)
    nesterov.nesterov = true
    var plain = OptimizerConfiguration(.sgd)
    plain.momentum = 0
    var relative = OptimizerConfiguration(.adafactor, weightDecay: 0.3)
    relative.relativeStep = true
    relative.scalesByParameter = false
    relative.momentum = 0.9
    return [
      OptimizerConfiguration(.adamw, weightDecay: 0.3), OptimizerConfiguration(.adamw),
      OptimizerConfiguration(.sgd, weightDecay: 0.3), nesterov, plain, OptimizerConfiguration(.adafactor),
      relative,
    ]
  }()

  /// Shapes with rows and columns beyond a panel, a vector, and one with more than a task's elements.
  private static let shapes = [(40, 64), (33, 32), (1, 96), (600, 64)]

  private static func gradient(_ rows: Int, _ columns: Int, step: Int) -> Matrix {
    randomMatrix(rows, columns, seed: UInt64(100 + step), deviation: 1e-3 * Float(step))
  }

  /// The values after some steps.
  private static func train(
    _ rule: OptimizerConfiguration, _ parameters: [Parameter], execution: Execution, from first: Int = 1,
    optimizer: (any Optimizer)? = nil
  ) throws {
    let optimizer = try optimizer ?? rule.optimizer(of: parameters, execution: execution)
    for step in first...steps {
      for parameter in parameters {
        parameter.setGradient(gradient(parameter.matrix.rows, parameter.matrix.columns, step: step))
      }
      optimizer.step(
        OptimizerUpdate(number: step, learningRate: .init(both: rate), gradientScale: .init(both: scale)))
    }
  }

  /// Each step rounds a value twice and its change, which is of the size of the rate or of the gradient, some
  /// dozen times; an error in the means is carried on.
  @Test(arguments: rules.indices, InstructionSet.supported)
  func everyRuleFollowsItsPaper(rule: Int, isa: InstructionSet) throws {
    let rule = Self.rules[rule]
    for (rows, columns) in Self.shapes {
      for decays in [true, false] {
        let start = randomMatrix(rows, columns, seed: 7)
        let parameter = try Parameter.test(start, decays: decays)
        try Self.train(rule, [parameter], execution: Execution(instructionSet: isa, threadCount: 2))
        var oracle = OptimizerOracle(rule, start, decays: decays)
        for step in 1...Self.steps {
          let gradient = Self.gradient(rows, columns, step: step).elements.map {
            Double(Self.scale) * Double($0)
          }
          oracle.step(step, gradient, rate: Self.rate)
        }
        for (found, expected) in zip(parameter.matrix.elements, oracle.values) {
          let tolerance = 0x1p-24 * Double(Self.steps) * (2 * abs(expected) + 64 * Self.rate)
          guard abs(Double(found) - expected) <= tolerance else {
            Issue.record("\(rule.kind) \(rows)×\(columns): \(found), expected \(expected) ± \(tolerance)")
            return
          }
        }
      }
    }
  }

  @Test(arguments: rules.indices, Layout.allCases)
  func aRuleDoesNotSeeTheLayout(rule: Int, layout: Layout) throws {
    let execution = try Execution(threadCount: 1)
    let start = randomMatrix(40, 64, seed: 3)
    let (plain, laid) = (try Parameter.test(start), try Parameter.test(start, layout))
    try Self.train(Self.rules[rule], [plain], execution: execution)
    try Self.train(Self.rules[rule], [laid], execution: execution)
    #expect(plain.matrix == laid.matrix)
    #expect(laid.paddingIsZero)
    #expect(plain.matrix != start)
  }

  @Test(arguments: rules.indices, [2, 3, 7])
  func threadsDoNotChangeABit(rule: Int, threads: Int) throws {
    func trained(_ threads: Int) throws -> [Matrix] {
      let parameters = try (0..<3).map {
        try Parameter.test(randomMatrix(600, 64, seed: UInt64($0)), .panels)
      }
      try Self.train(Self.rules[rule], parameters, execution: Execution(threadCount: threads))
      return parameters.map(\.matrix)
    }
    #expect(try trained(threads) == trained(1))
  }

  @Test(arguments: rules.indices)
  func aMemoryThatIsReadAndWrittenGoesOnTheSame(rule: Int) throws {
    let rule = Self.rules[rule]
    let execution = try Execution(threadCount: 1)
    let start = randomMatrix(40, 64, seed: 5)
    let whole = try Parameter.test(start, .panels)
    try Self.train(rule, [whole], execution: execution)
    let part = try Parameter.test(start, .panels)
    let first = try rule.optimizer(of: [part], execution: execution)
    for step in 1...3 {
      part.setGradient(Self.gradient(40, 64, step: step))
      first.step(
        OptimizerUpdate(
          number: step, learningRate: .init(both: Self.rate), gradientScale: .init(both: Self.scale)))
    }
    let resumed = try Parameter.test(part.matrix, .gateAndUpPanels)
    let second = try rule.optimizer(of: [resumed], execution: execution)
    #expect(first.state.map(\.name) == second.state.map(\.name))
    for (from, to) in zip(first.state, second.state) {
      #expect(from.read().shape == from.shape)
      to.write(from.read())
    }
    try Self.train(rule, [resumed], execution: execution, from: 4, optimizer: second)
    #expect(resumed.matrix == whole.matrix)
  }

  @Test func expertsHaveARateOfTheirOwn() throws {
    let start = randomMatrix(16, 32, seed: 1)
    let gradient = randomMatrix(16, 32, seed: 2)
    let parameters = [try Parameter.test(start, group: .expert), try Parameter.test(start)]
    var rule = OptimizerConfiguration(.sgd)
    rule.momentum = 0
    for parameter in parameters { parameter.setGradient(gradient) }
    try rule.optimizer(of: parameters, execution: Execution()).step(
      OptimizerUpdate(number: 1, learningRate: .init(expert: 0.5, other: 0.25), gradientScale: .init(both: 1))
    )
    for index in 0..<start.count {
      #expect(parameters[0].matrix.elements[index] == start.elements[index] - 0.5 * gradient.elements[index])
      #expect(parameters[1].matrix.elements[index] == start.elements[index] - 0.25 * gradient.elements[index])
    }
  }

  @Test func constantsThatCannotBeHonouredAreNamed() throws {
    var rule = OptimizerConfiguration(.adamw, weightDecay: -1)
    #expect { try rule.validate() } throws: { "\($0)".contains("weight decay is -1") }
    rule = OptimizerConfiguration(.adamw)
    rule.beta2 = 1
    #expect { try rule.validate() } throws: { "\($0)".contains("β₂ is 1") }
    rule = OptimizerConfiguration(.adamw)
    rule.epsilon = .nan
    #expect { try rule.validate() } throws: { "\($0)".contains("ε is nan") }
  }
}
