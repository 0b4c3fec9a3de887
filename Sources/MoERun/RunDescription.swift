/// The content of `run.json`: the model, the texts, the settings and the machine of a run. It is enough to continue
/// the run and to explain it.
///
/// In training, `Model` and `Training` are the configurations of the trainer. The report only shows their values, so
/// it reads both as any JSON.
public struct RunDescription<Model: Sendable & Equatable, Training: Sendable & Equatable>: Sendable, Equatable
{
  /// The version of the file.
  public var format = RunFormat()
  /// The arrangement of experts, by its name on the command line.
  public var preset: String
  /// The seed of parameters, batches and draws.
  public var seed: UInt64
  /// The sizes and layers of the model.
  public var model: Model
  /// The optimizer, its schedule, and the intervals of validation and checkpoints.
  public var training: Training
  /// The texts.
  public var data: TrainingData
  /// The numbers of parameters; zeros until the model is made.
  public var parameters = ParameterCounts(total: 0, activePerToken: 0, experts: 0)
  /// FLOPs of a forward pass over one byte, without attention scores; zero until the model is known.
  public var flopsPerToken = 0
  /// The machine on which the run began.
  public var machine: RunMachine
  /// The version of the program that began the run.
  public var version: String
  /// The settings by their names on the command line, defaults included. A resumed run may not contradict them.
  public var arguments: [String: String]
  /// The texts as the command line named them.
  public var texts: [String]
  /// How ranks add gradients, by its name on the command line; nil stands for exact sums.
  public var gradientSum: String?

  enum CodingKeys: String, CodingKey {
    case format, preset, seed, model, training, data, parameters, machine, version, arguments, texts
    case flopsPerToken = "flops_per_token"
    case gradientSum = "gradient_sum"
  }

  /// Describes a run that is about to begin.
  public init(
    preset: String, seed: UInt64, model: Model, training: Training, data: TrainingData, machine: RunMachine,
    version: String, arguments: [String: String], texts: [String]
  ) {
    self.preset = preset
    self.seed = seed
    self.model = model
    self.training = training
    self.data = data
    self.machine = machine
    self.version = version
    self.arguments = arguments
    self.texts = texts
  }
}

extension RunDescription: Encodable where Model: Encodable, Training: Encodable {}
extension RunDescription: Decodable where Model: Decodable, Training: Decodable {}

/// The texts that a run was trained on.
public struct TrainingData: Codable, Sendable, Equatable {
  /// Every file that was read.
  public var files: [TextFile]
  /// The number of bytes to train on.
  public var trainBytes: Int
  /// The number of held-out bytes.
  public var validationBytes: Int
  /// A hash of all texts, which a resumed run compares to notice changes.
  public var fingerprint: String

  enum CodingKeys: String, CodingKey {
    case files, fingerprint
    case trainBytes = "train_bytes"
    case validationBytes = "validation_bytes"
  }

  /// Describes texts by their files, sizes and hash.
  public init(files: [TextFile], trainBytes: Int, validationBytes: Int, fingerprint: String) {
    self.files = files
    self.trainBytes = trainBytes
    self.validationBytes = validationBytes
    self.fingerprint = fingerprint
  }
}

/// A file of text that was read.
public struct TextFile: Codable, Sendable, Equatable {
  /// The label of the file, such as a language.
  public var label: String
  /// The path. Bytes that are not UTF-8 become replacement characters.
  public var path: String
  /// The number of bytes to train on.
  public var trainBytes: Int
  /// The number of held-out bytes.
  public var validationBytes: Int

  enum CodingKeys: String, CodingKey {
    case label, path
    case trainBytes = "train_bytes"
    case validationBytes = "validation_bytes"
  }

  /// Describes a file by its label, path and sizes.
  public init(label: String, path: String, trainBytes: Int, validationBytes: Int) {
    self.label = label
    self.path = path
    self.trainBytes = trainBytes
    self.validationBytes = validationBytes
  }
}

/// The numbers of a model's parameters.
public struct ParameterCounts: Codable, Sendable, Equatable {
  /// The number of all parameters.
  public var total: Int
  /// The number of parameters that one byte passes.
  public var activePerToken: Int
  /// The number of parameters of routed experts.
  public var experts: Int

  enum CodingKeys: String, CodingKey {
    case total, experts
    case activePerToken = "active_per_token"
  }

  /// Collects the three counts.
  public init(total: Int, activePerToken: Int, experts: Int) {
    self.total = total
    self.activePerToken = activePerToken
    self.experts = experts
  }
}

/// The machine on which a run began.
public struct RunMachine: Codable, Sendable, Equatable {
  /// The processor's name.
  public var cpu: String
  /// The instruction set, by its name on the command line.
  public var isa: String
  /// The number of threads.
  public var threads: Int
  /// The number of ranks in one process; nil where it was not given.
  public var ranks: Int?

  /// Collects the four facts.
  public init(cpu: String, isa: String, threads: Int, ranks: Int? = nil) {
    self.cpu = cpu
    self.isa = isa
    self.threads = threads
    self.ranks = ranks
  }
}
