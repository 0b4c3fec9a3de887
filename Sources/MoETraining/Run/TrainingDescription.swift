public import MoE
public import MoERun

/// The content of `run.json`, with the configurations of the model and of training.
public typealias TrainingDescription = RunDescription<ModelConfiguration, TrainingConfiguration>

extension RunDescription where Model == ModelConfiguration, Training == TrainingConfiguration {
  /// Describes a run that is about to begin.
  public init(
    preset: String, seed: UInt64, model: ModelConfiguration, training: TrainingConfiguration,
    corpus: TextCorpus, machine: RunMachine, version: String, arguments: [String: String], texts: [String]
  ) {
    self.init(
      preset: preset, seed: seed, model: model, training: training, data: TrainingData(corpus),
      machine: machine, version: version, arguments: arguments, texts: texts)
    flopsPerToken = model.flopsPerToken
  }
}

extension TrainingData {
  /// Describes a corpus by its files, sizes and hash.
  public init(_ corpus: TextCorpus) {
    self.init(
      files: corpus.files, trainBytes: corpus.trainBytes, validationBytes: corpus.validationBytes,
      fingerprint: corpus.fingerprint)
  }
}

extension RunMachine {
  /// Describes a machine by its processor and by how training uses it.
  public init(cpu: String, execution: Execution, ranks: Int? = nil) {
    self.init(
      cpu: cpu, isa: execution.instructionSet.rawValue, threads: execution.threadCount, ranks: ranks)
  }
}
