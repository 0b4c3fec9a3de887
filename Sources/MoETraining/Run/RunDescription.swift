internal import Foundation
public import MoE

/// What `run.json` says of a run: enough to continue it, and to explain it.
public struct RunDescription: Codable, Sendable, Equatable {
  /// What a run was trained on.
  public struct Data: Codable, Sendable, Equatable {
    /// Every file that was read.
    public var files: [TextCorpus.File]
    /// Bytes to train on.
    public var trainBytes: Int
    /// Bytes held out.
    public var validationBytes: Int
    /// A hash of all texts, so that a resumed run notices other ones.
    public var fingerprint: String

    enum CodingKeys: String, CodingKey {
      case files, fingerprint
      case trainBytes = "train_bytes"
      case validationBytes = "validation_bytes"
    }

    /// Sums up a corpus.
    public init(_ corpus: TextCorpus) {
      files = corpus.files
      trainBytes = corpus.trainBytes
      validationBytes = corpus.validationBytes
      fingerprint = corpus.fingerprint
    }
  }

  /// How many parameters a model has.
  public struct Parameters: Codable, Sendable, Equatable {
    /// All of them.
    public var total: Int
    /// Those that one byte passes.
    public var activePerToken: Int
    /// Those of routed experts.
    public var experts: Int

    enum CodingKeys: String, CodingKey {
      case total, experts
      case activePerToken = "active_per_token"
    }

    /// Collects them.
    public init(total: Int, activePerToken: Int, experts: Int) {
      self.total = total
      self.activePerToken = activePerToken
      self.experts = experts
    }
  }

  /// Where a run began.
  public struct Machine: Codable, Sendable, Equatable {
    /// The processor's name.
    public var cpu: String
    /// The instruction set.
    public var isa: String
    /// The number of threads.
    public var threads: Int
    /// The number of ranks of a process, where it was given.
    public var ranks: Int?

    /// Collects them.
    public init(cpu: String, execution: Execution, ranks: Int? = nil) {
      self.ranks = ranks
      self.cpu = cpu
      isa = execution.instructionSet.rawValue
      threads = execution.threadCount
    }
  }

  /// The version of this file's form.
  public var format = 1
  /// The arrangement of experts, by its name on the command line.
  public var preset: String
  /// Of parameters, batches and draws.
  public var seed: UInt64
  /// What is trained.
  public var model: ModelConfiguration
  /// How.
  public var training: TrainingConfiguration
  /// On what.
  public var data: Data
  /// Known once the model is made.
  public var parameters = Parameters(total: 0, activePerToken: 0, experts: 0)
  /// FLOPs of a forward pass over one byte, without attention scores.
  public var flopsPerToken: Int
  /// Where the run began.
  public var machine: Machine
  /// Of the program that began it.
  public var version: String
  /// The settings as the command line has them, defaults included: what a resumed run may not contradict.
  public var arguments: [String: String]
  /// The texts as they were named.
  public var texts: [String]

  /// How ranks add gradients, by its name on the command line; nil where nothing was said: exactly.
  public var gradientSum: String?

  enum CodingKeys: String, CodingKey {
    case format, preset, seed, model, training, data, parameters, machine, version, arguments, texts
    case flopsPerToken = "flops_per_token"
    case gradientSum = "gradient_sum"
  }

  /// Describes a run that is about to begin.
  public init(
    preset: String, seed: UInt64, model: ModelConfiguration, training: TrainingConfiguration,
    corpus: TextCorpus, machine: Machine, version: String, arguments: [String: String], texts: [String]
  ) {
    self.preset = preset
    self.seed = seed
    self.model = model
    self.training = training
    data = Data(corpus)
    flopsPerToken = model.flopsPerToken
    self.machine = machine
    self.version = version
    self.arguments = arguments
    self.texts = texts
  }

  /// A value of this run as JSON text with sorted keys: the same text for the same value.
  static func json(_ value: some Encodable, isPretty: Bool = false) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting =
      isPretty
      ? [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted] : [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try! encoder.encode(value), as: UTF8.self)
  }
}
