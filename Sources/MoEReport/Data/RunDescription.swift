/// What `run.json` says of a run: what was trained, on what, where.
struct RunDescription: Decodable {
  /// A text, or a group of texts, of the training data.
  struct Source: Decodable {
    var label: String
    var path: String
    var trainBytes: Int
    var validationBytes: Int

    enum CodingKeys: String, CodingKey {
      case label, path
      case trainBytes = "train_bytes"
      case validationBytes = "validation_bytes"
    }
  }

  struct Corpus: Decodable {
    var files: [Source]
    var trainBytes: Int
    var validationBytes: Int

    enum CodingKeys: String, CodingKey {
      case files
      case trainBytes = "train_bytes"
      case validationBytes = "validation_bytes"
    }
  }

  struct Parameters: Decodable {
    var total: Int
    var active: Int
    var experts: Int

    enum CodingKeys: String, CodingKey {
      case total, experts
      case active = "active_per_token"
    }
  }

  struct Machine: Decodable {
    var cpu: String
    var isa: String
    var threads: Int
  }

  var format: Int
  var preset: String
  var seed: Int
  var data: Corpus
  var parameters: Parameters
  var flopsPerToken: Double
  var machine: Machine
  var version: String

  enum CodingKeys: String, CodingKey {
    case format, preset, seed, data, parameters, machine, version
    case flopsPerToken = "flops_per_token"
  }

  /// The one layout of the folder that is known here.
  static let knownFormat = 1

  /// The complaint about values that cannot be, if any.
  var complaint: String? {
    if format != Self.knownFormat {
      return "“format” is \(format), expected \(Self.knownFormat): another version of the program wrote it"
    }
    if parameters.active > parameters.total {
      return
        "“parameters.active_per_token” is \(parameters.active), more than the total of \(parameters.total)"
    }
    let counts = [
      parameters.total, parameters.active, parameters.experts, data.trainBytes, data.validationBytes,
    ]
    if let count = counts.first(where: { !(0...1 << 60).contains($0) }) {
      return "a count of parameters or bytes is \(count), expected 0 to 2^60"
    }
    for file in data.files {
      for count in [file.trainBytes, file.validationBytes] where !(0...1 << 50).contains(count) {
        return "“\(file.path)” has \(count) bytes, expected 0 to 2^50"
      }
    }
    if !(0...1e18).contains(flopsPerToken) {
      return "“flops_per_token” is \(flopsPerToken), expected 0 to 10^18"
    }
    return nil
  }
}
