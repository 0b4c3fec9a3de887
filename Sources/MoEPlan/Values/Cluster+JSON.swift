public import Foundation
internal import MoERun

extension Cluster {
  /// The version of the description.
  private static let format = 1

  private struct Version: Decodable {
    var format: Int?
  }

  private struct Versioned: Encodable {
    var cluster: Cluster

    private enum CodingKeys: CodingKey { case format }

    func encode(to encoder: any Encoder) throws {
      try cluster.encode(to: encoder)
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(Cluster.format, forKey: .format)
    }
  }

  /// Reads the description that ``json()`` writes. One without a version is read as version 1.
  ///
  /// - Parameter path: the file, as errors name it.
  /// - Throws: ``PlanError`` naming the value where it is no description, of another version, or out of range.
  public init(json: Data, path: String) throws(PlanError) {
    do {
      let found = try RunJSON.decode(Version.self, from: json, path: path).format ?? Self.format
      if found != Self.format {
        throw PlanError(
          "“format” is \(found), expected \(Self.format): another version of the program wrote it")
      }
      self = try RunJSON.decode(Cluster.self, from: json, path: path, keys: .convertFromSnakeCase)
      try validate()
    } catch let error as RunError {
      throw PlanError("\(error)")
    } catch {
      throw PlanError("\(path): \(error)")
    }
  }

  /// One JSON object, for ``init(json:path:)``.
  public func json() -> Data { planJSON(Versioned(cluster: self)) }
}

/// Any part of a plan as JSON, names in snake case.
public func planJSON(_ value: some Encodable) -> Data {
  let encoder = JSONEncoder()
  encoder.keyEncodingStrategy = .convertToSnakeCase
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
  // Numbers of a plan are finite, so nothing of it cannot be encoded.
  return (try? encoder.encode(value)) ?? Data()
}
