import ExpertParallel
import Foundation
import MoE
import MoERun
import MoETraining
import Testing

/// A model over ranks computes what it computes on one, to the bit.
@Suite struct RanksTests {
  /// Trainers that were asked for different things all say so, and none of them touches the folder.
  @Test func trainersThatDoNotAgreeTrainNothing() throws {
    try withTemporaryRun { place in
      let text = "\(place.path)/text"
      try Data(String(repeating: "a line of a text\n", count: 400).utf8).write(to: URL(filePath: text))
      let corpus = try TextCorpus([text])
      let folder = RunFolder("\(place.path)/run")
      let complaints = try LocalCommunicator.run(ranks: 3) { communicator in
        let isOther = communicator.rank == 1
        let description = try TrainingDescription(
          preset: "switch", seed: isOther ? 2 : 1,
          model: ModelConfiguration(
            contextLength: 16, hiddenSize: 32, headCount: 2,
            blocks: ModelPreset.switchTransformer.blocks(layerCount: 2, feedForwardSize: 64, expertCount: 4)),
          training: TrainingConfiguration(
            steps: 1, batchSize: 2, schedule: LearningRateSchedule(.cosine, peak: 0.001, warmupSteps: 1)),
          corpus: corpus, machine: .init(cpu: "a CPU", execution: .automatic()), version: "0", arguments: [:],
          texts: [text])
        let ranks = try Ranks(
          communicator, exchange: ExchangeOptions(overlap: isOther ? .slices(2) : .automatic))
        do {
          _ = try Trainer(
            description, corpus: corpus, folder: folder, resumes: false, over: ranks, execution: .automatic())
          return ""
        } catch let disagreement as Disagreement {
          return "\(disagreement)"
        }
      }
      #expect(
        complaints
          == .init(
            repeating:
              "the ranks were asked for different things: --seed is 1 on ranks 0, 2 and 2 on rank 1; "
              + "--overlap is auto on ranks 0, 2 and 2 on rank 1; expected the same on all ranks", count: 3))
      #expect(place.names == ["text"])
    }
  }

  /// The results of some steps of a run, as bits.
  struct Trace: Sendable, Equatable {
    /// Loss, auxiliary loss and the three norms of each step.
    var numbers: [[UInt64]] = []
    var loads: [[Int64]] = []
    var drops: [Int] = []
    /// Parameters and selection biases by name.
    var tensors: [String: [UInt32]] = [:]
    /// The loss of held-out text.
    var losses: [UInt32] = []
    var routes: [[Int32]] = []
    /// After a byte.
    var logits: [UInt32] = []
  }

  /// A model, what trains it, and in what parts.
  struct Training: Sendable {
    var preset: ModelPreset
    var optimizer = OptimizerConfiguration.Kind.adamw
    var precision = Precision.float32
    var recording = Recording.Extent.full
    var parts = 1
    var sequences = 6
    var hasBiases = false

    private var configuration: ModelConfiguration {
      var configuration = ModelConfiguration(
        contextLength: 16, hiddenSize: 32, headCount: 2,
        blocks: preset.blocks(layerCount: 2, feedForwardSize: 64, expertCount: 4))
      for index in configuration.blocks.indices where configuration.blocks[index].isMoE {
        configuration.blocks[index].zCoefficient = 0.01
        configuration.blocks[index].biasRate = 0.01
      }
      for index in configuration.blocks.indices { configuration.blocks[index].hasBiases = hasBiases }
      return configuration
    }

    /// Trains some steps on one rank of some, or on the only one.
    func run(_ ranks: Ranks?) throws -> Trace {
      let execution = try Execution(threadCount: 1 + (ranks?.communicator.rank ?? 1) % 2)
      let model = try LanguageModel(
        configuration, seed: 5, precision: precision, recording: recording, over: ranks, execution: execution)
      let optimizer = try OptimizerConfiguration(optimizer, weightDecay: 0.1).optimizer(
        of: model.parameters, execution: execution)
      var trace = Trace()
      for step in 1...6 {
        let text = LanguageModelTests.bytes(sequences * 16 + 1, seed: UInt64(step))
        model.resetGradients()
        let outcome = try model.accumulateGradients(
          inputs: Array(text.dropLast()), targets: Array(text.dropFirst()), sequenceLength: 16,
          microBatchCount: parts, noiseSeed: UInt64(step))
        let norm = try GradientNorm(of: model.parameters, over: ranks, execution: execution)
        optimizer.step(
          OptimizerUpdate(
            number: step, learningRate: .init(both: 0.01),
            gradientScale: GradientClip(norm: 1).scales(for: norm)))
        model.parametersChanged(after: outcome)
        trace.numbers.append(
          [outcome.loss, outcome.auxiliaryLoss, norm.all, norm.expert, norm.other].map(\.bitPattern))
        trace.loads += outcome.layers.map(\.load)
        trace.drops += outcome.layers.map(\.dropped)
      }
      for parameter in model.parameters {
        for tensor in parameter.tensors {
          trace.tensors[tensor.name] = parameter.matrix(tensor, in: parameter.values).bits
        }
      }
      for (name, bias) in model.selectionBiases { trace.tensors[name] = bias.map(\.bitPattern) }
      let text = LanguageModelTests.bytes(5 * 16 + 1, seed: 99)
      let evaluation = try model.evaluate(
        inputs: Array(text.dropLast()), targets: Array(text.dropFirst()), sequenceLength: 16)
      trace.losses = evaluation.losses.map(\.bitPattern)
      trace.routes = evaluation.routes.map(\.firstChoices)
      trace.loads += evaluation.layers.map(\.load)
      trace.drops += evaluation.layers.map(\.dropped)
      let decoder = try model.makeDecoder()
      for byte in text.prefix(3) { trace.logits = try decoder.logits(after: byte).map(\.bitPattern) }
      return trace
    }

    /// Returns the results on local ranks, after it has checked that all ranks have equal shared values.
    func run(
      ranks: Int, groups: Int? = nil, exchange: ExchangeOptions = ExchangeOptions()
    ) throws -> Trace {
      let traces = try LocalCommunicator.run(ranks: ranks, timeout: .seconds(20)) {
        try run(try Ranks($0, expertParallelSize: groups, exchange: exchange))
      }
      var whole = traces[0]
      for (rank, trace) in traces.enumerated() {
        for (name, values) in trace.tensors {
          #expect(whole.tensors[name, default: values] == values, "rank \(rank) has another \(name)")
          whole.tensors[name] = values
        }
        var same = trace
        same.tensors = whole.tensors
        #expect(same == whole, "rank \(rank) knows otherwise")
      }
      return whole
    }
  }

  private func expectSame(_ training: Training, ranks: [Int]) throws {
    let one = try training.run(nil)
    #expect(one.tensors.count > 10 && one.logits.count == 256)
    for count in ranks {
      let spread = try training.run(ranks: count)
      #expect(spread.numbers == one.numbers, "\(count) ranks")
      #expect(spread.tensors.keys.sorted() == one.tensors.keys.sorted(), "\(count) ranks")
      let differing = one.tensors.filter { spread.tensors[$0.key] != $0.value }.keys.sorted()
      #expect(differing.isEmpty, "\(count) ranks")
      #expect(spread == one, "\(count) ranks")
    }
  }

  @Test(arguments: ModelPreset.allCases) func anyNumberOfRanksHasTheBitsOfOne(preset: ModelPreset) throws {
    try expectSame(Training(preset: preset), ranks: [1, 2, 3, 4, 7])
  }

  @Test(arguments: OptimizerConfiguration.Kind.allCases)
  func anyOptimizerHasTheBitsOfOneRank(kind: OptimizerConfiguration.Kind) throws {
    try expectSame(Training(preset: .glam, optimizer: kind), ranks: [2, 6])
  }

  @Test(arguments: ModelPreset.allCases, [Precision.float32, .bfloat16])
  func biasesHaveTheBitsOfOneRank(preset: ModelPreset, precision: Precision) throws {
    let training = Training(preset: preset, precision: precision, parts: 2, hasBiases: true)
    try expectSame(training, ranks: [2, 5])
    let biases = try training.run(nil).tensors.filter { $0.key.hasSuffix("_bias") }
    #expect(biases.contains { $0.key.hasPrefix("layers.1.experts.") })
    for (name, values) in biases { #expect(values.contains { $0 != 0 }, "\(name) has learned nothing") }
  }

  @Test func whatSavesMemoryHasTheBitsOfOneRank() throws {
    try expectSame(Training(preset: .deepSeek, recording: .recompute, parts: 2), ranks: [2, 3])
    try expectSame(Training(preset: .switchTransformer, precision: .bfloat16, parts: 3), ranks: [3, 4])
  }

  /// Expert × data parallelism: groups of ranks that each have all experts.
  @Test(arguments: ModelPreset.allCases) func groupsOfRanksHaveTheBitsOfOneRank(preset: ModelPreset) throws {
    let training = Training(preset: preset, parts: preset == .glam ? 2 : 1)
    let one = try training.run(nil)
    for (ranks, size) in [(4, 2), (2, 1), (6, 3), (4, 1)] {
      #expect(try training.run(ranks: ranks, groups: size) == one, "\(ranks) ranks in groups of \(size)")
    }
  }

  @Test func slicesHaveTheBitsOfOneRank() throws {
    let training = Training(preset: .mixtral)
    let one = try training.run(nil)
    for slices in [1, 2, 4] {
      let exchange = ExchangeOptions(overlap: .slices(slices))
      #expect(try training.run(ranks: 3, exchange: exchange) == one, "\(slices) slices")
      #expect(try training.run(ranks: 4, groups: 2, exchange: exchange) == one, "\(slices) slices")
    }
  }

  @Test func groupsThatDoNotDivideTheRanksAreRefused() throws {
    #expect(throws: MoEError.self) {
      _ = try LocalCommunicator.run(ranks: 4) { _ = try Ranks($0, expertParallelSize: 3) }
    }
  }

  /// The gradient of a batch, also where it is added to that of another, is the sum of its sequences'; |difference| ≤ 2·γ·Σ|products|, and Σ over sequences of |their
  /// sums| is no more than that.
  @Test(arguments: [2, 4], [1, 2]) func reducedGradientsAreWithinTheBound(ranks: Int, times: Int) throws {
    let (sequences, length) = (8, 16)
    var configuration = ModelConfiguration(
      contextLength: length, hiddenSize: 32, headCount: 2,
      blocks: ModelPreset.mixtral.blocks(layerCount: 2, feedForwardSize: 64, expertCount: 4))
    for index in configuration.blocks.indices { configuration.blocks[index].balanceCoefficient = 0 }
    let model = configuration
    let text = LanguageModelTests.bytes(sequences * length + 1, seed: 3)
    @Sendable func gradients(
      _ ranks: Ranks?, _ sequences: Range<Int>, times: Int
    ) throws -> [String: [Float]] {
      let model = try LanguageModel(model, seed: 5, over: ranks, execution: Execution(threadCount: 1))
      let tokens = sequences.lowerBound * length..<sequences.upperBound * length
      model.resetGradients()
      for _ in 0..<times {
        _ = try model.accumulateGradients(
          inputs: Array(text[tokens]),
          targets: Array(text[tokens.lowerBound + 1..<tokens.upperBound + 1]), sequenceLength: length)
      }
      return Dictionary(
        uniqueKeysWithValues: model.parameters.flatMap { p in
          p.tensors.map { ($0.name, p.matrix($0, in: p.gradient).elements) }
        })
    }
    let one = try gradients(nil, 0..<sequences, times: times)
    let all = try LocalCommunicator.run(ranks: ranks) {
      try gradients(try Ranks($0, gradientSum: .reduced), 0..<sequences, times: times)
    }
    var sums: [String: [Double]] = [:]
    for sequence in 0..<sequences {
      for (name, values) in try gradients(nil, sequence..<sequence + 1, times: 1) {
        let scaled = values.map { Double(times) * Double(abs($0)) / Double(sequences) }
        sums[name] = sums[name].map { zip($0, scaled).map(+) } ?? scaled
      }
    }
    let u = 0x1p-24
    let terms = Double(2 * times * sequences * length + 1)
    let gamma = terms * u / (1 - terms * u)
    var differ = 0
    for part in all {
      for (name, values) in part where !name.contains(".experts.") {
        #expect(values == all[0][name], "\(name)")
        for (index, value) in values.enumerated() {
          let difference = abs(Double(value) - Double(one[name]![index]))
          if difference > 0 { differ += 1 }
          #expect(difference <= 2 * gamma * sums[name]![index], "\(name)[\(index)]")
        }
      }
    }
    #expect(differ > 0, "nothing was rounded otherwise, so nothing was reduced")
  }

  /// All ranks name a NaN or infinity alike, whichever rank has it.
  @Test func numbersThatAreNoneAreNamedOnAllRanks() throws {
    for (name, layer) in [("embedding", 0), ("layers.1.attention.output", 1)] {
      let errors = try LocalCommunicator.run(ranks: 3, timeout: .seconds(20)) { communicator in
        let ranks = try Ranks(communicator)
        let model = try LanguageModel(
          ModelConfiguration(
            contextLength: 16, hiddenSize: 32, headCount: 2,
            blocks: ModelPreset.switchTransformer.blocks(layerCount: 2, feedForwardSize: 64, expertCount: 4)),
          seed: 5, over: ranks, execution: Execution(threadCount: 1))
        let parameter = model.parameters.first { $0.name == name }!
        var values = parameter.matrix(parameter.tensors[0], in: parameter.values)
        // The embedding of the byte "b", which only one sequence has, or the norm that all use.
        for column in 0..<32 { values[layer == 0 ? 98 : 0, column] = .nan }
        parameter.set(values, parameter.tensors[0], in: parameter.values)
        var text = [UInt8](repeating: 97, count: 3 * 16)
        text[20] = 98
        do {
          _ = try model.accumulateGradients(inputs: text, targets: text, sequenceLength: 16)
          return "nothing"
        } catch {
          return "\(error)"
        }
      }
      #expect(Set(errors).count == 1, "\(errors)")
      #expect(
        errors[0].contains(layer == 0 ? "the embedding is not finite" : "layer 1's attention is not finite"),
        "\(errors)")
    }
  }

  /// A gradient that is none on the one rank that holds the expert is named on all.
  @Test func anExpertWithoutAGradientIsNamedOnAllRanks() throws {
    let errors = try LocalCommunicator.run(ranks: 4, timeout: .seconds(20)) { communicator in
      let execution = try Execution(threadCount: 1)
      let ranks = try Ranks(communicator)
      let model = try LanguageModel(
        ModelConfiguration(
          contextLength: 16, hiddenSize: 32, headCount: 2,
          blocks: ModelPreset.mixtral.blocks(layerCount: 2, feedForwardSize: 64, expertCount: 4)),
        seed: 5, over: ranks, execution: execution)
      for parameter in model.parameters where parameter.name == "layers.1.experts.down" {
        for tensor in parameter.tensors where tensor.name == "layers.1.experts.2.down" {
          var gradient = Matrix(rows: tensor.rows, columns: tensor.columns)
          gradient[1, 1] = .infinity
          parameter.set(gradient, tensor, in: parameter.gradient)
        }
      }
      do {
        _ = try GradientNorm(of: model.parameters, over: ranks, execution: execution)
        return "nothing"
      } catch {
        return "\(error)"
      }
    }
    #expect(
      errors == Array(repeating: "the gradient of layers.1.experts.2.down is NaN or infinite", count: 4))
  }
}

extension Matrix {
  fileprivate var bits: [UInt32] { elements.map(\.bitPattern) }
}
