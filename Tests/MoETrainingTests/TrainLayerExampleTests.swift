import Foundation
import Testing

/// The example that trains a layer, as it was built beside these tests.
@Suite struct TrainLayerExampleTests {
  private func run() throws -> String {
    let name = "train-layer-example"
    let places = [Bundle.main.executableURL, CommandLine.arguments.first.map { URL(filePath: $0) }]
    let executable = try #require(
      places.compactMap { $0?.deletingLastPathComponent().appending(path: name) }
        .first { FileManager.default.isExecutableFile(atPath: $0.path) },
      "no executable \(name) beside the tests")
    let process = Process()
    process.executableURL = executable
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    return String(decoding: text, as: UTF8.self)
  }

  /// The loss falls to less than a tenth, and every run prints the same.
  @Test func theLossFalls() throws {
    let text = try run()
    let losses = text.split(separator: "\n").filter { $0.hasPrefix("step ") }.compactMap { line in
      let words = line.split(separator: " ")
      return words.firstIndex(of: "loss").flatMap { Double(words[$0 + 1]) }
    }
    try #require(losses.count == 6, "\(text)")
    #expect(losses[5] < losses[0] / 10, "\(text)")
    #expect(try run() == text)
  }
}
