import Foundation

/// A training run's folder, read and validated.
public struct RunFolder {
  /// The folder, as it was named.
  public let path: String
  /// The folder's last component.
  public let name: String
  /// What had to be left out, in sentences.
  public internal(set) var notes: [String]

  let description: RunDescription
  /// All of `run.json`, by path.
  package let settings: [(path: String, value: String)]
  package let steps: [StepRecord]
  /// Absent until the first validation.
  package let routing: RoutingFile?
  /// Text that the model wrote at the end of training.
  package let sample: String?

  /// Reads `run.json`, `metrics.jsonl` and, where they are, `routing.json` and `sample.txt`; nothing else.
  ///
  /// - Throws: ``RunError`` naming the file, the line and the value.
  public init(path: String) throws(RunError) {
    self.path = path
    let url = URL(filePath: path).standardizedFileURL
    name = url.lastPathComponent
    var isFolder: ObjCBool = false
    if unsafe !FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) {
      throw RunError(path, "there is no such folder")
    }
    if !isFolder.boolValue { throw RunError(path, "this is a file, expected the folder of a run") }

    func file(_ name: String) -> String { path.hasSuffix("/") ? path + name : "\(path)/\(name)" }
    let run = try Self.contents(of: file("run.json"))
    description = try decode(RunDescription.self, from: run, path: file("run.json"))
    if let complaint = description.complaint { throw RunError(file("run.json"), complaint) }
    settings = try decode(JSONSetting.self, from: run, path: file("run.json")).flattened()

    let metrics = try MetricsFile(Self.contents(of: file("metrics.jsonl")), path: file("metrics.jsonl"))
    (steps, notes) = (metrics.steps, metrics.notes)

    if FileManager.default.fileExists(atPath: file("routing.json")) {
      let contents = try Self.contents(of: file("routing.json"))
      let routing = try decode(RoutingFile.self, from: contents, path: file("routing.json"))
      if let complaint = routing.complaint { throw RunError(file("routing.json"), complaint) }
      self.routing = routing
    } else {
      routing = nil
    }
    if FileManager.default.fileExists(atPath: file("sample.txt")) {
      sample = String(decoding: try Self.contents(of: file("sample.txt")), as: UTF8.self)
    } else {
      sample = nil
    }
  }

  private static func contents(of path: String) throws(RunError) -> Data {
    if !FileManager.default.fileExists(atPath: path) { throw RunError(path, "there is no such file") }
    do {
      return try Data(contentsOf: URL(filePath: path))
    } catch {
      throw RunError(path, "this file cannot be read")
    }
  }
}
