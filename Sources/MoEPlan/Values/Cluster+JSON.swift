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
  /// - Parameters:
  ///   - json: the contents of the file.
  ///   - path: the name of the file in errors.
  /// - Throws: ``PlanError`` that names the value that is missing, of the wrong type, of another version, or out of
  ///   range.
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

  /// Returns one JSON object that ``init(json:path:)`` reads.
  public func json() -> Data { planJSON(Versioned(cluster: self)) }
}

/// Returns any part of a plan as JSON, with names in snake case.
package func planJSON(_ value: some Encodable) -> Data {
  let encoder = JSONEncoder()
  encoder.keyEncodingStrategy = .convertToSnakeCase
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
  // Encoding fails only for numbers that are not finite, and a plan has none.
  return (try? encoder.encode(value)) ?? Data()
}
