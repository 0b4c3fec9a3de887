import Foundation
import MoE
import MoERun
import MoETraining
import Testing

/// Sizes beyond any limit are refused by name, before anything is multiplied with them.
@Suite struct SizeLimitTests {
  static let extremes = [Int.min, -1, 0, 1 << 31, 1 << 53, (1 << 62) - 1, 1 << 62, .max - 1, .max]

  private func model(_ change: (inout ModelConfiguration) -> Void) -> ModelConfiguration {
    var model = ModelConfiguration(
      contextLength: 32, hiddenSize: 32, headCount: 2,
      blocks: ModelPreset.deepSeek.blocks(layerCount: 2, feedForwardSize: 192, expertCount: 4))
    change(&model)
    return model
  }

  @Test(arguments: extremes) func ofAModel(_ value: Int) throws {
    try model { _ in }.validate()
    for change: (inout ModelConfiguration) -> Void in [
      { $0.vocabularySize = value }, { $0.contextLength = value }, { $0.hiddenSize = value },
      { $0.headCount = value }, { $0.blocks[1].expertCount = value },
      { $0.blocks[1].expertsPerToken = value },
      { $0.blocks[1].feedForwardSize = value }, { $0.blocks[1].denseBranch = value },
      { $0.blocks[0].expertCount = value },
    ] {
      #expect { try model(change).validate() } throws: { "\($0)".contains("\(value)") }
    }
  }

  @Test func ofFactorsThatAreEachAllowed() {
    #expect {
      try model {
        $0.hiddenSize = 1 << 16
        $0.blocks = Array(repeating: $0.blocks[1], count: 1024)
        for index in $0.blocks.indices {
          $0.blocks[index].expertCount = 1 << 16
          $0.blocks[index].feedForwardSize = 1 << 20
        }
      }.validate()
    } throws: { "\($0)".contains("parameters, expected at most") }
    #expect {
      try MoEConfiguration(
        hiddenSize: 1 << 24, feedForwardSize: 1 << 24, expertCount: 1 << 24, expertsPerToken: 1)
    } throws: { "\($0)".contains("16777216 experts of the sizes 16777216 and 16777216") }
  }

  @Test func ofACapacity() {
    for rule: CapacityRule in [
      .fixed(.max), .exact(numerator: .max, denominator: 1, minimum: .max),
      .meshTensorFlow(factor: 1e308, minimum: .max), .lingvo(factor: 1e308, minimum: .max),
      .flaxformer(factor: 1e308), .deepSpeed(factor: 1e308, minimum: .max), .megatron(factor: 1e308),
    ] {
      for tokens in [0, 1, 1 << 20] {
        let capacity = rule.capacity(tokenCount: tokens, expertCount: 8, expertsPerToken: 2)
        #expect((0...1 << 31).contains(capacity), "\(rule) for \(tokens) tokens: \(capacity)")
      }
    }
  }

  @Test func ofARunAreRefusedWhereItsFileIsRead() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "moe-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let text = folder.appending(path: "text")
    try Data(String(repeating: "line\n", count: 100).utf8).write(to: text)
    let run = RunFolder(folder.appending(path: "run").path)
    try run.create()
    let description = try TrainingDescription(
      preset: "deepseek", seed: 1, model: model { _ in },
      training: TrainingConfiguration(
        steps: 4, batchSize: 2, schedule: LearningRateSchedule(.cosine, peak: 0.001, warmupSteps: 1)),
      corpus: TextCorpus([text.path]), machine: .init(cpu: "a CPU", execution: .automatic()), version: "0",
      arguments: [:], texts: [text.path])
    try run.write(description)
    #expect(try run.description() == description)
    for (change, complaint) in [
      ({ $0.model.headCount = .max }, "9223372036854775807 heads"),
      ({ $0.model.contextLength = .max }, "the context is 9223372036854775807"),
      ({ $0.training.batchSize = .max }, "the batch size is 9223372036854775807"),
      (
        {
          $0.training.batchSize = 1 << 20
          $0.model.contextLength = 1 << 16
        }, "a step has 1048576 sequences of 65536 bytes"
      ),
    ] as [((inout TrainingDescription) -> Void, String)] {
      var damaged = description
      change(&damaged)
      try run.write(damaged)
      #expect { try run.description() } throws: { "\($0)".contains(complaint) }
    }
    try run.write(description)
    let file = URL(filePath: "\(run.path)/run.json")
    let written = try String(contentsOf: file, encoding: .utf8)
    for (found, other, complaint) in [
      (
        "\"format\" : 1", "\"format\" : 2",
        "run.json: “format” is 2, expected 1: another version of the program"
      ),
      (
        "\"routing\" : \"deepseek-v3\"", "\"routing\" : \"none\"",
        "run.json: “model.blocks[1].routing” is “none”, which is none of the names it may have"
      ),
    ] {
      try Data(written.replacing(found, with: other, maxReplacements: 1).utf8).write(to: file)
      #expect { try run.description() } throws: { "\($0)".contains(complaint) }
    }
  }
}
