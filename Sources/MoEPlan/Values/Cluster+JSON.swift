public import Foundation
import MoEReport

extension Cluster {
  /// Reads the description that ``json()`` writes.
  ///
  /// - Parameters:
  ///   - json: the contents of the file.
  ///   - path: the name of the file in errors.
  /// - Throws: ``PlanError`` that names the value that is missing, of the wrong type, or out of range.
  public init(json: Data, path: String) throws(PlanError) {
    do {
      self = try decode(Cluster.self, from: json, path: path, keys: .convertFromSnakeCase)
      try validate()
    } catch let error as RunError {
      throw PlanError("\(error)")
    } catch {
      throw PlanError("\(path): \(error)")
    }
  }

  /// Returns one JSON object that ``init(json:path:)`` reads.
  public func json() -> Data { planJSON(self) }
}

/// Returns any part of a plan as JSON, with names in snake case.
package func planJSON(_ value: some Encodable) -> Data {
  let encoder = JSONEncoder()
  encoder.keyEncodingStrategy = .convertToSnakeCase
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
  // Encoding fails only for numbers that are not finite, and a plan has none.
  return (try? encoder.encode(value)) ?? Data()
}
