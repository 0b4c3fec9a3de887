internal import Foundation
public import MoE

/// What `run.json` says of a run: enough to continue it, and to explain it.
public struct RunDescription: Codable, Sendable, Equatable {
  /// What a run was trained on.
  public struct Data: Codable, Sendable, Equatable {
    public var files: [TextCorpus.File]
    public var trainBytes: Int
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
    public var total: Int
    public var activePerToken: Int
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
    public var cpu: String
    public var isa: String
    public var threads: Int

    /// Collects them.
    public init(cpu: String, execution: Execution) {
      self.cpu = cpu
      isa = execution.instructionSet.rawValue
      threads = execution.threadCount
    }
  }

  public var format = 1
  public var preset: String
  public var seed: UInt64
  public var model: ModelConfiguration
  public var training: TrainingConfiguration
  public var data: Data
  /// Known once the model is made.
  public var parameters = Parameters(total: 0, activePerToken: 0, experts: 0)
  public var flopsPerToken: Int
  public var machine: Machine
  public var version: String
  /// The settings as the command line has them, defaults included: what a resumed run may not contradict.
  public var arguments: [String: String]
  /// The texts as they were named.
  public var texts: [String]

  enum CodingKeys: String, CodingKey {
    case format, preset, seed, model, training, data, parameters, machine, version, arguments, texts
    case flopsPerToken = "flops_per_token"
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
