import ExpertParallel
import MoE
import MoETraining
import Testing

/// A stand-alone layer with biases everywhere, trained to imitate another one.
private struct Imitation: Sendable {
  var configuration: MoEConfiguration
  var precision = Precision.float32
  var kind = OptimizerConfiguration.Kind.adamw
  var threads = 2
  var parts = 1

  static let tokenCount = 96
  static let input = Activations.random([tokenCount, 32], seed: 1)

  init(
    _ activation: ActivationFunction = .swiGLU, routing: RoutingPolicy = .softmaxTopK(normalized: true),
    denseBranch: MoEConfiguration.DenseBranch? = .residual(feedForwardSize: 32)
  ) throws {
    configuration = try MoEConfiguration(
      hiddenSize: 32, feedForwardSize: 64, expertCount: 6, expertsPerToken: 2, activation: activation,
      routing: routing, denseBranch: denseBranch)
  }

  /// The parameters of the teacher, or at which a student begins; every bias is a number of its own.
  func weights(seed: UInt64) -> MoEWeights {
    var weights = MoEWeights.random(for: configuration, seed: seed).withBiases()
    var generator = SeededGenerator(seed: seed ^ 0xB1A5)
    func bias(_ count: Int?) -> [Float]? {
      count.map { Matrix.normal(rows: 1, columns: $0, deviation: 0.25, using: &generator).elements }
    }
    func network(_ network: FeedForwardWeights) -> FeedForwardWeights {
      var network = network
      network.gateBias = bias(network.gateBias?.count)
      network.upBias = bias(network.upBias?.count)
      network.downBias = bias(network.downBias?.count)
      return network
    }
    weights.routerWeights.bias = bias(configuration.expertCount)
    weights.experts = weights.experts.map(network)
    weights.dense = weights.dense.map(network)
    let gateBias = bias(weights.denseGate?.bias?.count)
    weights.denseGate?.bias = gateBias
    return weights
  }

  func student(over ranks: Ranks? = nil) throws -> TrainedLayer {
    try TrainedLayer(
      configuration, weights: weights(seed: 2), precision: precision, over: ranks,
      execution: Execution(threadCount: threads))
  }

  func optimizer(of layer: TrainedLayer) throws -> LayerOptimizer {
    try OptimizerConfiguration(kind, weightDecay: 0.01).optimizer(of: layer)
  }

  /// The teacher's output for the input.
  func target() throws -> Activations {
    try MoELayer(configuration, weights: weights(seed: 3))(Self.input).output
  }

  /// Adds the gradients of the loss over some tokens, part by part, and returns the loss of each token.
  func addGradients(
    of layer: TrainedLayer, toward target: Activations, tokens: Range<Int> = 0..<tokenCount
  ) throws -> [Float] {
    let recording = LayerRecording()
    var losses: [Float] = []
    for part in 0..<parts {
      let own =
        tokens.lowerBound + part * tokens.count / parts..<tokens.lowerBound + (part + 1) * tokens.count
        / parts
      let (input, target) = (try Self.input.rows(own), try target.rows(own))
      var (output, inputGradient) = (input, input)
      try layer.forward(input, recording: recording, into: &output)
      losses += output.squares(from: target)
      try layer.backward(
        output.gradient(from: target, tokenCount: Self.tokenCount), input: input, recording: recording,
        into: &inputGradient)
    }
    return losses
  }

  /// Trains on this rank's tokens and returns what the steps leave, as bits: losses, norms and parameters.
  func train(steps: Int, over ranks: Ranks? = nil) throws -> (losses: [[UInt32]], tensors: [String: [UInt32]])
  {
    let layer = try student(over: ranks)
    let optimizer = try optimizer(of: layer)
    let target = try target()
    let (rank, size) = (ranks?.communicator.rank ?? 0, ranks?.communicator.size ?? 1)
    let tokens = rank * Self.tokenCount / size..<(rank + 1) * Self.tokenCount / size
    var losses: [[UInt32]] = []
    for _ in 0..<steps {
      losses.append(try addGradients(of: layer, toward: target, tokens: tokens).map(\.bitPattern))
      let norm = try optimizer.step(learningRate: 0.01, clip: GradientClip(norm: 0.5))
      #expect(norm.all > 0.5, "nothing was clipped")
    }
    return (losses, layer.bits)
  }
}

extension Activations {
  fileprivate func rows(_ range: Range<Int>) throws -> Activations {
    try Activations(shape: [range.count, shape[1]], tokens: tokens.rows(range))
  }

  /// Half the squared distance of each token.
  fileprivate func squares(from target: Activations) -> [Float] {
    (0..<tokenCount).map { token in
      (0..<tokens.columns).reduce(0) { sum, column in
        let difference = tokens[token, column] - target.tokens[token, column]
        return sum + difference * difference / 2
      }
    }
  }

  /// The gradient of the mean of ``squares(from:)`` over all tokens of a batch.
  fileprivate func gradient(from target: Activations, tokenCount: Int) throws -> Activations {
    var gradient = self
    for row in 0..<tokens.rows {
      for column in 0..<tokens.columns {
        gradient.tokens[row, column] =
          (tokens[row, column] - target.tokens[row, column]) / Float(tokenCount)
      }
    }
    return gradient
  }
}

extension TrainedLayer {
  /// The values of all matrices by name.
  fileprivate var bits: [String: [UInt32]] {
    Dictionary(
      uniqueKeysWithValues: parameters.flatMap { parameter in
        parameter.tensors.map { ($0.name, parameter.values(of: $0).elements.map(\.bitPattern)) }
      })
  }
}

@Suite struct TrainedLayerTests {
  /// 150 steps of any optimizer bring the loss down to a fifth of what it was, in either precision.
  @Test(arguments: OptimizerConfiguration.Kind.allCases, [Precision.float32, .bfloat16])
  func theLossFalls(kind: OptimizerConfiguration.Kind, precision: Precision) throws {
    var imitation = try Imitation()
    imitation.precision = precision
    imitation.kind = kind
    let layer = try imitation.student()
    let optimizer = try imitation.optimizer(of: layer)
    let target = try imitation.target()
    var losses: [Float] = []
    for _ in 0..<150 {
      losses.append(try imitation.addGradients(of: layer, toward: target).reduce(0, +))
      try optimizer.step(learningRate: optimizer.rate(of: kind))
    }
    #expect(losses.last! < losses[0] / 5, "from \(losses[0]) to \(losses.last!)")
    #expect(optimizer.stepCount == 150)
  }

  @Test func everyWeightAndBiasIsAParameter() throws {
    let layer = try Imitation().student()
    let projections = ["gate", "up", "down", "gate_bias", "up_bias", "down_bias"]
    let networks = (0..<6).map { "experts.\($0)" } + ["dense"]
    let expected =
      ["router", "router_bias", "dense_gate", "dense_gate_bias"]
      + networks.flatMap { network in projections.map { "\(network).\($0)" } }
    #expect(layer.parameters.flatMap { $0.tensors.map(\.name) }.sorted() == expected.sorted())
    for parameter in layer.parameters {
      #expect(parameter.decays == !parameter.name.hasSuffix("bias"), "\(parameter.name)")
      #expect((parameter.group == .expert) == parameter.name.hasPrefix("experts."), "\(parameter.name)")
    }
    let bias = try #require(layer.parameters.first { $0.name == "experts.gate_bias" })
    #expect(bias.tensors.map(\.shape) == Array(repeating: [1, 64], count: 6))
    let start = try Imitation().weights(seed: 2)
    #expect(layer.weights == start)
    for (expert, tensor) in bias.tensors.enumerated() {
      #expect(bias.values(of: tensor).elements == start.experts[expert].gateBias)
    }
  }

  /// Each parameter's gradient has the bits of the sums that `MoEGradients` has for the weight or bias of that name.
  @Test(arguments: [Precision.float32, .bfloat16], [ActivationFunction.swiGLU, .gelu])
  func gradientsAreThoseOfTheLayer(precision: Precision, activation: ActivationFunction) throws {
    var imitation = try Imitation(activation)
    imitation.precision = precision
    let trained = try imitation.student()
    let target = try imitation.target()
    _ = try imitation.addGradients(of: trained, toward: target)
    let layer = try MoELayer(
      imitation.configuration, weights: imitation.weights(seed: 2), precision: precision)
    let sums = try MoEGradients(for: layer)
    var recording = Recording()
    var workspace = Workspace()
    var (output, inputGradient) = (Imitation.input, Imitation.input)
    try layer.forward(Imitation.input, recording: &recording, into: &output, workspace: &workspace)
    try layer.backward(
      output.gradient(from: target, tokenCount: Imitation.tokenCount), input: Imitation.input,
      recording: &recording, into: &inputGradient, gradients: sums, workspace: &workspace)
    let expected = sums.weights(of: layer)
    func network(_ name: String, _ weights: FeedForwardWeights) -> [(String, [Float]?)] {
      [
        ("\(name).gate", weights.gate?.elements), ("\(name).up", weights.up.elements),
        ("\(name).down", weights.down.elements), ("\(name).gate_bias", weights.gateBias),
        ("\(name).up_bias", weights.upBias), ("\(name).down_bias", weights.downBias),
      ]
    }
    var all: [(String, [Float]?)] = [
      ("router", expected.routerWeights.weight.elements), ("router_bias", expected.routerWeights.bias),
      ("dense_gate", expected.denseGate!.weight.elements), ("dense_gate_bias", expected.denseGate!.bias),
    ]
    for (index, expert) in expected.experts.enumerated() { all += network("experts.\(index)", expert) }
    all += network("dense", expected.dense!)
    let byName = Dictionary(uniqueKeysWithValues: all.compactMap { name, sum in sum.map { (name, $0) } })
    var found = 0
    for parameter in trained.parameters {
      for tensor in parameter.tensors {
        let gradient = parameter.gradient(of: tensor).elements
        #expect(gradient == byName[tensor.name], "\(tensor.name)")
        #expect(gradient.contains { $0 != 0 }, "\(tensor.name)")
        found += 1
      }
    }
    #expect(found == byName.count)
  }

  @Test(arguments: [Precision.float32, .bfloat16])
  func anyThreadsAndPartsHaveTheSameBits(precision: Precision) throws {
    var imitation = try Imitation()
    imitation.precision = precision
    let expected = try imitation.train(steps: 4)
    for (threads, parts) in [(1, 1), (3, 2), (2, 5)] {
      (imitation.threads, imitation.parts) = (threads, parts)
      let found = try imitation.train(steps: 4)
      #expect(found.losses == expected.losses && found.tensors == expected.tensors, "\(threads), \(parts)")
    }
  }

  @Test(arguments: [Precision.float32, .bfloat16], [1, 2, 3, 5])
  func ranksHaveTheBitsOfOne(precision: Precision, ranks: Int) throws {
    var imitation = try Imitation()
    imitation.precision = precision
    let (one, same) = (try imitation.train(steps: 4), imitation)
    let parts = try LocalCommunicator.run(ranks: ranks, timeout: .seconds(20)) {
      try same.train(steps: 4, over: Ranks($0))
    }
    var held: Set<String> = []
    for part in parts {
      for (name, values) in part.tensors { #expect(values == one.tensors[name], "\(name)") }
      held.formUnion(part.tensors.keys)
    }
    #expect(held == Set(one.tensors.keys))
    for step in 0..<4 { #expect(parts.flatMap { $0.losses[step] } == one.losses[step]) }
  }

  /// A step without gradients takes rate · λ from the weights and nothing from the biases.
  @Test(arguments: OptimizerConfiguration.Kind.allCases)
  func biasesDoNotDecay(kind: OptimizerConfiguration.Kind) throws {
    let layer = try Imitation().student()
    let before = layer.weights
    try OptimizerConfiguration(kind, weightDecay: 0.5).optimizer(of: layer).step(learningRate: 0.5)
    let after = layer.weights
    #expect(after.routerWeights.bias == before.routerWeights.bias)
    #expect(after.denseGate?.bias == before.denseGate?.bias)
    for (now, then) in zip(after.experts + [after.dense!], before.experts + [before.dense!]) {
      #expect(now.gateBias == then.gateBias && now.upBias == then.upBias && now.downBias == then.downBias)
      #expect(now.up.elements == then.up.elements.map { $0 * 0.75 })
    }
  }

  /// The trained parameters make a `MoELayer` that computes what the trained layer does.
  @Test(arguments: [Precision.float32, .bfloat16]) func weightsMakeTheSameLayer(precision: Precision) throws {
    var imitation = try Imitation(.relu, denseBranch: .gatedShared(feedForwardSize: 64))
    imitation.precision = precision
    let layer = try imitation.student()
    let optimizer = try imitation.optimizer(of: layer)
    _ = try imitation.addGradients(of: layer, toward: imitation.target())
    try optimizer.step(learningRate: 0.01)
    #expect(layer.weights != imitation.weights(seed: 2))
    var output = Imitation.input
    var record = RoutingRecord()
    try layer.evaluate(Imitation.input, into: &output, record: &record)
    let other = try MoELayer(imitation.configuration, weights: layer.weights, precision: precision)
    let (expected, expectedRecord) = try other(Imitation.input)
    #expect(output == expected && record == expectedRecord)
  }

  @Test func selectionIsBalancedByCounts() throws {
    let imitation = try Imitation(
      routing: .deepseekV3(groups: 1, selectedGroups: 1, normalized: true, scale: 1), denseBranch: nil)
    var weights = imitation.weights(seed: 2)
    weights.routerWeights.selectionBias = Array(repeating: 0, count: 6)
    let layer = try TrainedLayer(imitation.configuration, weights: weights)
    let recording = LayerRecording()
    var output = Imitation.input
    try layer.forward(Imitation.input, recording: recording, into: &output)
    let counts = recording.record.counts.map(Int.init)
    layer.balanceSelection(by: try layer.statistics(of: recording), rate: 0.5)
    #expect(layer.selectionBias == counts.map { Float((32 - $0).signum()) * 0.5 })
    #expect(layer.weights.routerWeights.selectionBias == layer.selectionBias)
  }

  @Test func capacityOfEvaluationIsItsOwn() throws {
    let training = try Imitation(
      routing: .gshardTop2(capacity: .lingvo(factor: 0.25)), denseBranch: nil)
    let evaluation = try Imitation(routing: .gshardTop2(), denseBranch: nil)
    let layer = try TrainedLayer(
      training.configuration, evaluation: evaluation.configuration, weights: training.weights(seed: 2))
    let recording = LayerRecording()
    var output = Imitation.input
    var record = RoutingRecord()
    try layer.forward(Imitation.input, recording: recording, into: &output)
    try layer.evaluate(Imitation.input, into: &output, record: &record)
    #expect(recording.record.droppedCount > 0 && record.droppedCount == 0)
  }

  @Test func whatCannotBeTrainedIsRefused() throws {
    func complaint(_ body: () throws -> Void) -> String {
      do {
        try body()
        return "nothing"
      } catch {
        return "\(error)"
      }
    }
    let imitation = try Imitation()
    let odd = try MoEConfiguration(
      hiddenSize: 48, feedForwardSize: 64, expertCount: 2, expertsPerToken: 1)
    #expect(
      complaint { _ = try TrainedLayer(odd, weights: MoEWeights.random(for: odd, seed: 1)) }
        .contains("hidden size is a multiple of 32, not 48"))
    #expect(
      complaint {
        _ = try TrainedLayer(
          imitation.configuration, evaluation: odd, weights: imitation.weights(seed: 1))
      }.contains("the configuration of evaluation has other sizes"))
    let layer = try imitation.student()
    let optimizer = try imitation.optimizer(of: layer)
    #expect(complaint { try optimizer.step(learningRate: -1) }.contains("the learning rate is -1.0"))
    #expect(complaint { try optimizer.step(learningRate: .nan) }.contains("the learning rate is nan"))
    #expect(
      complaint { _ = try layer.statistics(of: LayerRecording()) }.contains("the recording holds no pass"))
    // A gradient that is no number changes nothing.
    let before = layer.weights
    let recording = LayerRecording()
    var (output, inputGradient) = (Imitation.input, Imitation.input)
    try layer.forward(Imitation.input, recording: recording, into: &output)
    output.tokens[5, 7] = .infinity
    try layer.backward(output, input: Imitation.input, recording: recording, into: &inputGradient)
    #expect(complaint { try optimizer.step(learningRate: 0.01) }.contains("is NaN or infinite"))
    #expect(layer.weights == before && optimizer.stepCount == 0)
  }
}

extension LayerOptimizer {
  /// A learning rate that suits the rule.
  fileprivate func rate(of kind: OptimizerConfiguration.Kind) -> Double {
    switch kind {
    case .adamw: 0.01
    case .adafactor: 0.03
    case .sgd: 0.1
    }
  }
}
