internal import Foundation
public import MoERun

/// The files of a training run's folder, read and checked.
public struct RecordedRun {
  /// The folder, as it was named.
  public let path: String
  /// The folder's last component.
  public let name: String
  /// Sentences about what was left out.
  public internal(set) var notes: [String]

  /// `run.json`.
  let description: ReadDescription
  /// All values of `run.json`, by path.
  package let settings: [(path: String, value: String)]
  /// The steps in order; at least one.
  package let steps: [StepRecord]
  /// The routes of the newest validation; nil before the first.
  package let routing: RoutingMap?
  /// Text that the model wrote at the end of training; nil before the end.
  package let sample: String?

  /// Reads `run.json`, `metrics.jsonl` and, where they are, `routing.json` and `sample.txt`; nothing else.
  ///
  /// - Throws: `RunError` naming the file, the line and the value.
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
    let run = try Self.contents(of: file(RunFiles.description))
    description = try RunJSON.decode(ReadDescription.self, from: run, path: file(RunFiles.description))
    if let complaint = description.complaint { throw RunError(file(RunFiles.description), complaint) }
    settings = try RunJSON.decode(JSONSetting.self, from: run, path: file(RunFiles.description)).flattened()

    let metrics = try MetricsLog(Self.contents(of: file(RunFiles.metrics)), path: file(RunFiles.metrics))
    (steps, notes) = (metrics.steps, metrics.notes)

    if FileManager.default.fileExists(atPath: file(RunFiles.routing)) {
      let contents = try Self.contents(of: file(RunFiles.routing))
      let routing = try RunJSON.decode(RoutingMap.self, from: contents, path: file(RunFiles.routing))
      if let complaint = routing.complaint { throw RunError(file(RunFiles.routing), complaint) }
      self.routing = routing
    } else {
      routing = nil
    }
    if FileManager.default.fileExists(atPath: file(RunFiles.sample)) {
      sample = String(decoding: try Self.contents(of: file(RunFiles.sample)), as: UTF8.self)
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
