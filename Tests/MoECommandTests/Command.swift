import Foundation
import Synchronization
import Testing

/// The status and the output of one run of `moe`.
struct Run: Sendable {
  var status: Int32
  var output: String
  var errors: String
}

/// The command that was built beside these tests.
let executable: URL? = {
  let places = [Bundle.main.executableURL, CommandLine.arguments.first.map { URL(filePath: $0) }]
  return places.compactMap { $0?.deletingLastPathComponent().appending(path: "moe") }.first {
    FileManager.default.isExecutableFile(atPath: $0.path)
  }
}()

/// Runs `moe` to its end, which must come within half a minute.
///
/// - Parameter environment: what is set besides this process's own environment, of which `MOE_ISA` and
///   `OMP_NUM_THREADS` are left out.
func moe(_ arguments: [String], environment: [String: String] = [:]) throws -> Run {
  let executable = try #require(executable, "no executable moe beside the tests")
  let process = Process()
  process.executableURL = executable
  process.arguments = arguments
  process.environment = ProcessInfo.processInfo.environment
    .filter { $0.key != "MOE_ISA" && $0.key != "OMP_NUM_THREADS" }
    .merging(environment) { _, new in new }
  process.standardInput = FileHandle.nullDevice
  let (output, errors) = (Pipe(), Pipe())
  process.standardOutput = output
  process.standardError = errors
  let hasEnded = DispatchSemaphore(value: 0)
  process.terminationHandler = { _ in hasEnded.signal() }
  try process.run()
  let readers = [Reader(output), Reader(errors)]
  if hasEnded.wait(timeout: .now() + 30) == .timedOut {
    kill(process.processIdentifier, SIGKILL)
    Issue.record("moe \(arguments.joined(separator: " ")) did not end within 30 s")
    process.waitUntilExit()
  }
  let texts = readers.map { $0.text() }
  #expect(
    process.terminationReason == .exit, "moe \(arguments.joined(separator: " ")) was killed: \(texts[1])")
  return Run(status: process.terminationStatus, output: texts[0], errors: texts[1])
}

func moe(_ arguments: String..., environment: [String: String] = [:]) throws -> Run {
  try moe(arguments, environment: environment)
}

/// Reads a pipe to its end on a thread of its own, so that the writer never waits for room in it.
private final class Reader: Sendable {
  private let bytes = Mutex(Data())
  private let hasEnded = DispatchSemaphore(value: 0)

  init(_ pipe: Pipe) {
    let handle = pipe.fileHandleForReading
    Thread.detachNewThread { [self] in
      let all = handle.readDataToEndOfFile()
      // Nobody else closes it soon, and with some 1350 descriptors open `Process.run` reads past the end of its
      // list of them (swift-corelibs-foundation, pull request 5472).
      try? handle.close()
      bytes.withLock { $0 = all }
      hasEnded.signal()
    }
  }

  /// All of it, once it has ended.
  func text() -> String {
    hasEnded.wait()
    return bytes.withLock { String(decoding: $0, as: UTF8.self) }
  }
}

/// Expects a run to have succeeded in silence: whatever it says is on stdout.
func expectSuccess(
  _ run: Run, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(run.status == 0, comment, sourceLocation: sourceLocation)
  #expect(run.errors.isEmpty, comment, sourceLocation: sourceLocation)
}

/// Expects a run to have failed with one plain sentence on stderr that has all `parts`, and nothing on stdout.
func expectFailure(
  _ run: Run, saying parts: [String], sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(run.status == 1, "\(run.errors)", sourceLocation: sourceLocation)
  #expect(run.output.isEmpty, sourceLocation: sourceLocation)
  let lines = run.errors.split(separator: "\n", omittingEmptySubsequences: false)
  #expect(
    lines.count == 2 && lines.last == "", "more than a line: \(run.errors)", sourceLocation: sourceLocation)
  #expect(run.errors.hasPrefix("Error: "), "\(run.errors)", sourceLocation: sourceLocation)
  #expect(!run.errors.lowercased().contains("usage"), "\(run.errors)", sourceLocation: sourceLocation)
  for part in parts {
    #expect(run.errors.contains(part), "“\(part)” is not in: \(run.errors)", sourceLocation: sourceLocation)
  }
}

/// Expects a run to have been refused as bad usage, with a first line that has `part`, and nothing on stdout.
func expectUsageError(
  _ run: Run, saying part: String, sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(run.status == 64, "\(run.errors)", sourceLocation: sourceLocation)
  #expect(run.output.isEmpty, sourceLocation: sourceLocation)
  let first = run.errors.split(separator: "\n").first ?? ""
  #expect(first.hasPrefix("Error: ") && first.contains(part), "\(run.errors)", sourceLocation: sourceLocation)
}
