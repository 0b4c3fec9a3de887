import MoE
import MoETraining
import Testing

@Suite struct LanguageModelTests {
  static let length = 20

  static func model(
    _ preset: ModelPreset, precision: Precision = .float32, recording: Recording.Extent = .full,
    threads: Int = 2, isa: InstructionSet? = nil,
    _ change: (inout FeedForwardBlock) -> Void = { _ in }
  ) throws -> LanguageModel {
    var configuration = ModelConfiguration(
      contextLength: 24, hiddenSize: 32, headCount: 2,
      blocks: preset.blocks(layerCount: 3, feedForwardSize: 64, expertCount: 4))
    for index in configuration.blocks.indices { change(&configuration.blocks[index]) }
    return try LanguageModel(
      configuration, seed: 3, precision: precision, recording: recording,
      execution: Execution(instructionSet: isa, threadCount: threads))
  }

  static func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in UInt8(97 + generator.next() % 20) }
  }

  static let inputs = bytes(4 * length, seed: 1)
  static let targets = bytes(4 * length, seed: 2)

  static func step(_ model: LanguageModel, parts: Int = 1) throws -> StepOutcome {
    try model.accumulateGradients(
      inputs: inputs, targets: targets, sequenceLength: length, microBatchCount: parts)
  }

  static func gradients(_ model: LanguageModel) -> [[Matrix]] {
    model.parameters.map { p in p.tensors.map { p.matrix($0, in: p.gradient) } }
  }

  /// Every parameter's gradient along random directions against central differences of the loss, in fp32: the loss is
  /// about 6 with errors of 10⁻⁷ of it, over 2h. A direction in which a token changes its expert says nothing, the
  /// loss has a step there; nor does one over the kink of a ReLU, which GELU replaces.
  @Test(arguments: ModelPreset.allCases, [false, true])
  func gradientsAgreeWithDifferences(preset: ModelPreset, hasBiases: Bool) throws {
    let model = try Self.model(preset) {
      if $0.activation == .relu { $0.activation = .gelu }
      $0.hasBiases = hasBiases
    }
    model.resetGradients()
    let routes = try Self.step(model).layers.map(\.load)
    let gradients = Self.gradients(model)
    for (parameter, gradient) in zip(model.parameters, gradients) {
      let values = parameter.tensors.map { parameter.matrix($0, in: parameter.values) }
      let h: Float = 0x1p-8
      var isChecked = false
      for seed: UInt64 in 1...12 where !isChecked {
        var generator = SeededGenerator(seed: seed)
        let directions = values.map {
          Matrix.normal(rows: $0.rows, columns: $0.columns, deviation: 0.1, using: &generator)
        }
        var expected = 0.0
        var squares = 0.0
        for (a, b) in zip(gradient, directions).flatMap({ zip($0.elements, $1.elements) }) {
          expected += Double(a) * Double(b)
          squares += Double(a) * Double(a) * Double(b) * Double(b)
        }
        var difference = 0.0
        var keepsRoutes = true
        for sign: Float in [1, -1] {
          for (index, tensor) in parameter.tensors.enumerated() {
            var moved = values[index]
            for row in 0..<moved.rows {
              for column in 0..<moved.columns {
                moved[row, column] += sign * h * directions[index][row, column]
              }
            }
            parameter.set(moved, tensor, in: parameter.values)
          }
          let outcome = try Self.step(model)
          keepsRoutes = keepsRoutes && outcome.layers.map(\.load) == routes
          difference += Double(sign) * (outcome.loss + outcome.auxiliaryLoss) / (2 * Double(h))
        }
        for (index, tensor) in parameter.tensors.enumerated() {
          parameter.set(values[index], tensor, in: parameter.values)
        }
        guard keepsRoutes else { continue }
        isChecked = true
        #expect(
          abs(expected - difference) <= 0.01 * squares.squareRoot() + 1e-4,
          "\(parameter.name): \(expected) by the gradient, \(difference) by the difference")
      }
      #expect(isChecked, "\(parameter.name): every direction changed a route")
    }
  }

  /// Sequences of several blocks of scores, with attention that is far from even: gradients of queries, keys and values
  /// by themselves, against differences.
  @Test(arguments: [129, 150, 300], [Recording.Extent.full, .recompute])
  func longSequencesHaveTheGradientsOfDifferences(length: Int, recording: Recording.Extent) throws {
    let hidden = 32
    let model = try LanguageModel(
      ModelConfiguration(
        contextLength: length, hiddenSize: hidden, headCount: 2,
        blocks: [FeedForwardBlock(routing: .dense, feedForwardSize: 32, activation: .gelu)]),
      seed: 4, recording: recording)
    let parameter = try #require(model.parameters.first { $0.name == "layers.0.attention.query_key_value" })
    let tensor = parameter.tensors[0]
    var values = parameter.matrix(tensor, in: parameter.values)
    for row in 0..<2 * hidden { for column in 0..<hidden { values[row, column] *= 4 } }
    let text = Self.bytes(length + 1, seed: 6)
    func loss(_ values: Matrix) throws -> Double {
      parameter.set(values, tensor, in: parameter.values)
      return try model.accumulateGradients(
        inputs: Array(text.dropLast()), targets: Array(text.dropFirst()), sequenceLength: length
      ).loss
    }
    model.resetGradients()
    _ = try loss(values)
    let gradient = parameter.matrix(tensor, in: parameter.gradient)
    for (part, name) in ["queries", "keys", "values"].enumerated() {
      var generator = SeededGenerator(seed: UInt64(part))
      let direction = Matrix.normal(rows: hidden, columns: hidden, deviation: 1, using: &generator)
      var (expected, squares, difference) = (0.0, 0.0, 0.0)
      let h: Float = 0x1p-9
      for sign: Float in [1, -1] {
        var moved = values
        for row in 0..<hidden {
          for column in 0..<hidden {
            moved[part * hidden + row, column] += sign * h * direction[row, column]
            let term = Double(gradient[part * hidden + row, column]) * Double(direction[row, column]) / 2
            expected += term
            squares += 2 * term * term
          }
        }
        difference += Double(sign) * (try loss(moved)) / (2 * Double(h))
      }
      #expect(squares.squareRoot() > 0.01, "the \(name) matter too little to be checked")
      #expect(
        abs(expected - difference) <= 0.01 * squares.squareRoot() + 2e-4,
        "\(name): \(expected) by the gradient, \(difference) by the difference, size \(squares.squareRoot())")
    }
  }

  @Test(arguments: [ModelPreset.switchTransformer, .glam, .deepSpeedPR, .deepSeek])
  func bitsDependOnNoThreadAndOnNoRecomputation(preset: ModelPreset) throws {
    for isa in InstructionSet.supported {
      let reference = try Self.model(preset, threads: 1, isa: isa)
      let outcome = try Self.step(reference)
      for (threads, extent) in [(2, Recording.Extent.full), (3, .recompute), (1, .recompute)] {
        let model = try Self.model(preset, recording: extent, threads: threads, isa: isa)
        #expect(try Self.step(model).loss == outcome.loss)
        #expect(Self.gradients(model) == Self.gradients(reference))
      }
    }
  }

  @Test(arguments: [ModelPreset.dense, .switchTransformer, .mixtral, .deepSeek])
  func bitsDependOnNoSplitIntoMicroBatches(preset: ModelPreset) throws {
    func model() throws -> LanguageModel { try Self.model(preset) { $0.capacityFactor = nil } }
    let whole = try model()
    let outcome = try Self.step(whole)
    for parts in [2, 3, 4] {
      let model = try model()
      let split = try Self.step(model, parts: parts)
      #expect(Self.gradients(model) == Self.gradients(whole), "\(parts) parts")
      #expect(split.layers.map(\.load) == outcome.layers.map(\.load))
      #expect(split.loss == outcome.loss)
      #expect(abs(split.auxiliaryLoss - outcome.auxiliaryLoss) <= 1e-12)
    }
  }

  /// In bfloat16 a gradient is that of fp32 within the rounding of its operands, and a changed parameter counts.
  @Test(arguments: [ModelPreset.mixtral, .deepSeek])
  func bfloat16FollowsTheMaster(preset: ModelPreset) throws {
    let exact = try Self.model(preset)
    let narrow = try Self.model(preset, precision: .bfloat16)
    for model in [exact, narrow] {
      let parameter = try #require(model.parameters.first { $0.name == "layers.1.experts.up" })
      for tensor in parameter.tensors {
        var matrix = parameter.matrix(tensor, in: parameter.values)
        for row in 0..<matrix.rows { matrix[row, 3] += 0.25 }
        parameter.set(matrix, tensor, in: parameter.values)
      }
      model.parametersChanged(after: nil)
    }
    let (expected, outcome) = (try Self.step(exact), try Self.step(narrow))
    #expect(abs(expected.loss - outcome.loss) < 0.01 && expected.loss != outcome.loss)
    for (parameter, pair) in zip(exact.parameters, zip(Self.gradients(exact), Self.gradients(narrow))) {
      var (difference, size) = (0.0, 0.0)
      for (a, b) in zip(pair.0, pair.1).flatMap({ zip($0.elements, $1.elements) }) {
        difference += Double(a - b) * Double(a - b)
        size += Double(a) * Double(a)
      }
      // Seven operands rounded by 2⁻⁸ lie on the way to a gradient, through two or three layers.
      #expect(difference.squareRoot() <= 21 * 0x1p-8 * size.squareRoot(), "\(parameter.name)")
    }
    for parts in [2, 3] {
      let split = try Self.model(preset, precision: .bfloat16, recording: .recompute, threads: 1)
      _ = try Self.step(split, parts: parts)
    }
  }

  /// A decoder that reads a text byte by byte gives the logits of the whole text.
  @Test(arguments: [ModelPreset.dense, .mixtral, .deepSeek])
  func decoderAgreesWithTheWholeText(preset: ModelPreset) throws {
    let model = try Self.model(preset)
    let text = Array(Self.inputs[..<Self.length])
    let next = Array(Self.targets[..<Self.length])
    let losses = try model.evaluate(inputs: text, targets: next, sequenceLength: text.count).losses
    let decoder = try model.makeDecoder()
    for (index, byte) in text.enumerated() {
      let logits = try decoder.logits(after: byte).map(Double.init)
      let most = logits.max()!
      var sum = 0.0
      for logit in logits { sum += Double(Float(logit - most).exponential) }
      let loss = most + sum.naturalLogarithm - logits[Int(next[index])]
      #expect(abs(loss - Double(losses[index])) < 1e-4)
    }
  }

  @Test func badBatchesAreRefused() throws {
    let model = try Self.model(.switchTransformer)
    for (inputs, targets, length, parts) in [
      ([], [], 4, 1), ([1, 2, 3], [1, 2, 3], 2, 1), ([1, 2], [1], 2, 1), ([1, 2], [1, 2], 0, 1),
      (Self.bytes(50, seed: 1), Self.bytes(50, seed: 1), 25, 1), ([1, 2], [1, 2], 1, 3),
      ([1, 2], [1, 2], 1, 0),
    ] as [([UInt8], [UInt8], Int, Int)] {
      #expect(throws: MoEError.self) {
        try model.accumulateGradients(
          inputs: inputs, targets: targets, sequenceLength: length, microBatchCount: parts)
      }
    }
    let decoder = try model.makeDecoder()
    for byte in Self.inputs[..<24] { _ = try decoder.logits(after: byte) }
    #expect(throws: MoEError.self) { try decoder.logits(after: 1) }
  }

  /// A parameter that is not finite stops the step, and the error names its layer.
  @Test(arguments: ["layers.1.experts.up", "layers.2.attention.output", "layers.1.router"])
  func divergenceNamesTheLayer(name: String) throws {
    let model = try Self.model(.switchTransformer)
    let parameter = try #require(model.parameters.first { $0.name == name })
    for tensor in parameter.tensors {
      var matrix = Matrix(rows: tensor.shape[0], columns: tensor.shape[1])
      for row in 0..<matrix.rows { matrix[row, 0] = .nan }
      parameter.set(matrix, tensor, in: parameter.values)
    }
    let error = #expect(throws: MoEError.self) { try Self.step(model) }
    #expect("\(error!)".contains(name.hasPrefix("layers.1") ? "layer 1" : "layer 2"), "\(error!)")
  }
}
