import MoE
import MoETraining

/// A part of a training step. The alias is needed because the bench also has a type for the stages of layers.
typealias TrainingStage = MoETraining.Stage

/// A language model with the state of its training step, on random bytes.
final class ModelRun {
  private let configuration: ModelConfiguration
  private let expertCount: Int
  private let model: LanguageModel
  private let optimizer: any Optimizer
  private let inputs: [UInt8]
  private let targets: [UInt8]
  private var number = 0
  private var steps: [Step] = []

  /// The seconds of a step and of its stages.
  struct Step {
    var seconds: Double
    var stages: [TrainingStage: Double]
  }

  init(
    _ configuration: ModelConfiguration, expertCount: Int, batch: Int, precision: Precision,
    recording: Recording.Extent,
    execution: Execution
  ) throws {
    self.configuration = configuration
    self.expertCount = expertCount
    model = try LanguageModel(
      configuration, seed: 1, precision: precision, recording: recording, execution: execution)
    optimizer = try OptimizerConfiguration(.adamw).optimizer(of: model.parameters, execution: execution)
    var generator = SeededGenerator(seed: 7)
    let text = (0...batch * configuration.contextLength).map { _ in UInt8(97 + generator.next() % 26) }
    inputs = Array(text.dropLast())
    targets = Array(text.dropFirst())
  }

  /// Computes one step: forward pass, backward pass and optimizer.
  @discardableResult
  func step() throws -> Step {
    number += 1
    var stages: [TrainingStage: Double] = [:]
    var update = 0.0
    let total = try seconds {
      model.resetGradients()
      let outcome = try model.accumulateGradients(
        inputs: inputs, targets: targets, sequenceLength: configuration.contextLength)
      stages = outcome.stageSeconds
      update = seconds {
        optimizer.step(OptimizerUpdate(number: number, learningRate: .init(both: 1e-4)))
        model.parametersChanged(after: outcome)
      }
    }
    stages[.optimizer] = update
    return Step(seconds: total, stages: stages)
  }

  func record(_ step: Step) { steps.append(step) }

  func row(peak: Double) -> ModelRow {
    let median = steps.map(\.seconds).median
    var stages: [String: Double] = [:]
    for stage in TrainingStage.allCases {
      stages[stage.rawValue] = steps.map { $0.stages[stage] ?? 0 }.median * 1e3
    }
    let flops = 3 * Double(configuration.flopsPerToken * inputs.count)
    return ModelRow(
      experts: expertCount, parameters: model.parameterCounts.total,
      activeParameters: model.parameterCounts.activePerToken, milliseconds: median * 1e3,
      tokensPerSecond: Double(inputs.count) / median, shareOfPeak: flops / median / peak,
      stageMilliseconds: stages)
  }
}

/// One model's figures.
struct ModelRow: Encodable {
  let experts: Int
  let parameters: Int
  let activeParameters: Int
  let milliseconds: Double
  let tokensPerSecond: Double
  let shareOfPeak: Double
  let stageMilliseconds: [String: Double]

  static let header =
    [
      "experts", " parameters", "   active", "  ms a step", " tokens/s", " of FMA",
    ].joined(separator: " ") + TrainingStage.allCases.map { " " + $0.rawValue.padded(12) }.joined()

  var line: String {
    let stages = TrainingStage.allCases.map {
      fixed(stageMilliseconds[$0.rawValue] ?? 0, 1, width: 10) + "   "
    }
    return [
      fixed(Double(experts), 0, width: 7), fixed(Double(parameters) * 1e-6, 2, width: 10) + "M",
      fixed(Double(activeParameters) * 1e-6, 2, width: 8) + "M", fixed(milliseconds, 1, width: 12),
      fixed(tokensPerSecond, 0, width: 9), fixed(100 * shareOfPeak, 0, width: 6) + "%",
    ].joined(separator: " ") + stages.joined()
  }
}
