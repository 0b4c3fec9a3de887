import ExpertParallel
import Foundation
import MoE
import MoERun
import MoETraining
import Testing

/// Whole runs of models with biases: their checkpoints, and their experts on the move.
@Suite struct BiasRunTests {
  private static let execution = try! Execution(threadCount: 1)

  private func description(_ corpus: TextCorpus, _ kind: OptimizerConfiguration.Kind) -> TrainingDescription {
    var model = ModelConfiguration(
      contextLength: 16, hiddenSize: 32, headCount: 2,
      blocks: ModelPreset.deepSpeedPR.blocks(layerCount: 2, feedForwardSize: 64, expertCount: 8))
    for index in model.blocks.indices { model.blocks[index].hasBiases = true }
    var training = TrainingConfiguration(
      steps: 6, batchSize: 4, schedule: LearningRateSchedule(.constant, peak: 0.01, warmupSteps: 0))
    training.optimizer = OptimizerConfiguration(kind, weightDecay: 0.1)
    training.saveEvery = 3
    return TrainingDescription(
      preset: "test", seed: 7, model: model, training: training, corpus: corpus,
      machine: .init(cpu: "any", execution: Self.execution), version: "0", arguments: [:], texts: [])
  }

  /// Trains up to a step and returns the values of this rank's parameters by name.
  private func train(
    _ description: TrainingDescription, _ corpus: TextCorpus, in folder: String, resumes: Bool, to step: Int,
    over ranks: Ranks? = nil
  ) throws -> [String: [Float]] {
    let trainer = try Trainer(
      description, corpus: corpus, folder: RunFolder(folder), resumes: resumes, over: ranks,
      execution: Self.execution)
    _ = try trainer.run(shouldStop: { trainer.step == step })
    #expect(trainer.step == step)
    return Dictionary(
      uniqueKeysWithValues: trainer.model.parameters.flatMap { parameter in
        parameter.tensors.map { ($0.name, parameter.values(of: $0).elements) }
      })
  }

  /// Three steps on two ranks that move experts after each second step, then three on three ranks, leave what six steps
  /// on one rank leave.
  @Test(arguments: OptimizerConfiguration.Kind.allCases)
  func runsResumeOnOtherRanks(kind: OptimizerConfiguration.Kind) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "moe-\(UUID())").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try Data(LanguageModelTests.bytes(8000, seed: 5)).write(to: URL(filePath: "\(folder)/text"))
    let corpus = try TextCorpus(["\(folder)/text"])
    let description = description(corpus, kind)
    let one = try train(description, corpus, in: "\(folder)/one", resumes: false, to: 6)
    for name in ["router_bias", "dense_gate_bias", "experts.5.up_bias", "dense.down_bias"] {
      let bias = try #require(one["layers.1.\(name)"])
      #expect(bias.contains { $0 != 0 }, "\(name) has learned nothing")
    }
    var parts: [[String: [Float]]] = []
    for (ranks, step) in [(2, 3), (3, 6)] {
      // A process keeps the lock of a run's folder until it ends, so the second part goes on in a copy.
      if step == 6 { try FileManager.default.copyItem(atPath: "\(folder)/3", toPath: "\(folder)/6") }
      parts = try LocalCommunicator.run(ranks: ranks, timeout: .seconds(20)) {
        try train(
          description, corpus, in: "\(folder)/\(step)", resumes: step == 6, to: step,
          over: Ranks($0, rebalancing: RebalancingOptions(interval: 2, copyCount: 2)))
      }
    }
    var names: Set<String> = []
    for part in parts {
      for (name, values) in part { #expect(values == one[name], "\(name)") }
      names.formUnion(part.keys)
    }
    #expect(names == Set(one.keys))
  }
}
