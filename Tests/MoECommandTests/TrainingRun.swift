import Foundation
import Testing

/// A small text, a small model, and what `moe train` makes of them in a folder.
struct TrainingRun {
  /// Has the text and the runs.
  let folder: URL

  /// Two layers, the second of four experts; a run takes a fraction of a second.
  static let settings = [
    "--layers", "2", "--hidden", "32", "--heads", "2", "--ffn", "64", "--experts", "4", "--context", "32",
    "--batch", "4", "--steps", "40", "--warmup", "4", "--validate-every", "10", "--save-every", "4",
  ]

  /// Writes the text: lines of words, some of them not ASCII.
  init(in folder: URL) throws {
    self.folder = folder
    let words = ["Haus", "tree", "maison", "grün", "7", "water", "und", "the", "là", "stone"]
    var lines = ""
    for number in 0..<1500 {
      lines += (0..<6).map { words[(number * 7 + $0 * $0 * 3 + number / 9) % words.count] }.joined(
        separator: " ")
      lines += "\n"
    }
    try lines.write(to: folder.appending(path: "text.txt"), atomically: true, encoding: .utf8)
    try lines.uppercased().write(to: folder.appending(path: "loud.txt"), atomically: true, encoding: .utf8)
  }

  func path(_ name: String) -> String { folder.appending(path: name).path }

  /// The arguments of a new run.
  func arguments(_ run: String, _ more: [String] = [], settings: [String: String] = [:]) -> [String] {
    let usual = ["train", "--text", path("text.txt"), "shout=\(path("loud.txt"))", "--out", path(run)]
    return (usual + Self.settings + more).overridden(by: settings)
  }

  /// Trains a run to its end.
  func train(_ run: String, _ more: String..., settings: [String: String] = [:]) throws -> Run {
    try moe(arguments(run, more, settings: settings))
  }

  func resume(_ run: String, _ more: String...) throws -> Run {
    try moe(["train", "--out", path(run), "--resume"] + more)
  }

  func bytes(_ run: String, _ file: String = "checkpoint.safetensors") throws -> Data {
    try Data(contentsOf: URL(filePath: path("\(run)/\(file)")))
  }

  /// The lines of metrics, each a JSON object.
  func metrics(_ run: String) throws -> [[String: Any]] {
    try String(decoding: bytes(run, "metrics.jsonl"), as: UTF8.self).split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  /// Starts `moe` with these arguments, sends it `signal` once `isDue` says so, and waits for its end.
  ///
  /// - Returns: its status, or nil where it had ended before or was killed by the signal.
  func interrupt(_ arguments: [String], with signal: Int32, when isDue: () -> Bool) throws -> Int32? {
    let process = Process()
    process.executableURL = try #require(executable) as URL
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    while process.isRunning && !isDue() { usleep(50) }
    kill(process.processIdentifier, signal)
    process.waitUntilExit()
    return process.terminationReason == .exit ? process.terminationStatus : nil
  }

  /// The number of steps recorded.
  func recordedSteps(_ run: String) -> Int {
    ((try? bytes(run, "metrics.jsonl")) ?? Data()).count { $0 == UInt8(ascii: "\n") }
  }

  /// Whether a checkpoint is being written.
  func isSaving(_ run: String) -> Bool {
    ((try? names(in: folder.appending(path: run))) ?? []).contains { $0.hasPrefix("checkpoint-next") }
  }
}

extension [String] {
  /// The arguments with other values for some options.
  fileprivate func overridden(by settings: [String: String]) -> [String] {
    var arguments = self
    for (name, value) in settings {
      if let place = arguments.firstIndex(of: "--\(name)") {
        arguments[place + 1] = value
      } else {
        arguments += ["--\(name)", value]
      }
    }
    return arguments
  }
}
