public import Foundation
import MoEReport

extension Cluster {
  /// Reads the description that ``json()`` writes.
  ///
  /// - Parameter path: named in errors.
  /// - Throws: ``PlanError`` for what is no description, naming the value.
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

  /// One JSON object, for ``init(json:path:)``.
  public func json() -> Data { planJSON(self) }
}

/// Any part of a plan as JSON, names in snake case.
public func planJSON(_ value: some Encodable) -> Data {
  let encoder = JSONEncoder()
  encoder.keyEncodingStrategy = .convertToSnakeCase
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
  // Numbers of a plan are finite, so nothing of it cannot be encoded.
  return (try? encoder.encode(value)) ?? Data()
}
