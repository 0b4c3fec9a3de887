/// The files of a run's folder that training writes and the report reads.
package enum RunFiles {
  /// The model, the texts and the settings of the run (``RunDescription``).
  package static let description = "run.json"
  /// One ``StepRecord`` per line and step.
  package static let metrics = "metrics.jsonl"
  /// The experts to which the bytes of held-out text went in the newest validation (``RoutingMap``).
  package static let routing = "routing.json"
  /// The text that the model wrote at the end of training.
  package static let sample = "sample.txt"
}

/// The version of a run's files. Decoding refuses every other version before it reads any other field.
public struct RunFormat: Codable, Sendable, Equatable {
  /// A version that this program does not know.
  struct Unknown: Error {
    var found: Int
    /// The complaint about the field, without the file.
    var complaint: String {
      "“format” is \(found), expected \(RunFormat.known): another version of the program wrote it"
    }
  }

  /// The version that this program writes and reads.
  static let known = 1

  /// The known version.
  public init() {}

  /// Reads the version as an integer.
  public init(from decoder: any Decoder) throws {
    let found = try decoder.singleValueContainer().decode(Int.self)
    if found != Self.known { throw Unknown(found: found) }
  }

  /// Writes the version as an integer.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(Self.known)
  }
}
