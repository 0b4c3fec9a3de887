import Foundation
import MoECheckpoints
import MoECore

/// Calls of `moe` with damaged options and files, each in a process of its own.
struct Commands {
  /// Values in the place of an option's.
  private static let values = [
    "0", "-1", "1", "3", "2147483648", "4294967296", "9223372036854775807", "-9223372036854775808",
    "9223372036854775808", "18446744073709551615", "65536", "1048576", "1e308", "-1e308", "1e-308", "nan",
    "inf",
    "-inf", "0.5", "", " ", "\u{663}", "1e", "0x10", "=", "a=b", "\u{1B}[2J", ":", "1GB/s:", ":1us",
    "zipf:nan",
  ]

  private let moe: String
  private let folder: URL
  private let fixtures: String
  private let calls: [[String]]

  /// - Parameters:
  ///   - moe: the built command.
  ///   - fixtures: the folder of checkpoints.
  ///   - folder: an empty folder in which files may be written.
  init(moe: String, fixtures: String, folder: URL) throws {
    self.moe = moe
    self.folder = folder
    self.fixtures = fixtures
    func path(_ name: String) -> String { folder.appending(path: name).path }
    try Data(String(repeating: "a line of a text\n", count: 400).utf8).write(
      to: folder.appending(path: "text.txt"))
    var writer = SafetensorsWriter()
    try writer.add("logits", (0..<32).map { Float($0 * 7 % 11) }, shape: [4, 8])
    try writer.write(to: path("logits.safetensors"))
    let train = [
      "train", "--text", path("text.txt"), "--out", path("run"), "--layers", "2", "--hidden", "32", "--heads",
      "2",
      "--ffn", "64", "--experts", "4", "--context", "32", "--batch", "4", "--steps", "1", "--seed", "1",
      "--learning-rate", "0.001", "--warmup", "0", "--weight-decay", "0.1", "--clip", "1", "--micro-batches",
      "1",
      "--validate-every", "1", "--save-every", "1", "--balance-coefficient", "0.01", "--capacity-factor",
      "1.25",
      "--expert-learning-rate", "1", "--threads", "1",
    ]
    calls = [
      train, train + ["--preset", "deepspeed-pr"], train + ["--ranks", "2"],
      train + [
        "--ranks", "2", "--expert-parallel", "2", "--rebalance-every", "1", "--expert-copies", "1",
        "--timeout", "20",
        "--overlap", "2",
      ],
      [
        "plan", "--experts", "8", "--top-k", "2", "--hidden", "64", "--ffn", "64", "--layers", "1", "--hosts",
        "2",
        "--ranks-per-host", "2", "--cores", "2", "--link", "10gbit:50us", "--intra", "10GB/s:2us", "--flops",
        "250G",
        "--memory", "32GiB", "--memory-bandwidth", "40GB/s", "--tokens", "1024", "--context", "128",
        "--vocabulary",
        "100", "--shared-ffn", "32", "--capacity-factor", "1.25", "--seed", "1", "--list", "3", "--load",
        "zipf:1.0",
      ],
      [
        "plan", "--experts", "8", "--hidden", "64", "--ffn", "64", "--hosts", "2", "--ranks-per-host", "2",
        "--ep", "2",
        "--dp", "2", "--tp", "1", "--overlap", "1", "--seed", "1",
      ],
      [
        "route", path("logits.safetensors"), "--policy", "deepseek-v3", "--top-k", "2", "--capacity-factor",
        "1.25",
        "--min-capacity", "1", "--groups", "2", "--groups-selected", "1", "--threads", "1",
      ],
      [
        "generate", path("whole"), "--bytes", "3", "--temperature", "0.8", "--top-p", "1.0", "--seed", "1",
        "--prompt", "a", "--threads", "1",
      ],
      [
        "apply", "\(fixtures)/mixtral", "--layer", "0", "--input", "\(fixtures)/mixtral/expected.safetensors",
        "--tensor", "layers.0.input", "--output", path("y.safetensors"), "--ranks", "1", "--threads", "1",
      ],
    ]
    let status = try run(train.map { $0 == path("run") ? path("whole") : $0 })
    if status != 0 {
      throw CheckpointError("moe", "undamaged options end with status \(String(describing: status))")
    }
  }

  /// Runs one damaged call.
  ///
  /// - Returns: the call where a signal ended it; nil where it succeeded, was refused, or took too long.
  func fault(_ generator: inout SeededGenerator) throws -> String? {
    var call = calls.randomElement(using: &generator)!
    switch Int.random(in: 0..<8, using: &generator) {
    case 0, 1: return try faultOfRun(&generator)
    case 2: return try faultOfCheckpoint(&generator)
    default: break
    }
    let places = call.indices.filter { $0 > 1 && call[$0 - 1].hasPrefix("--") && call[$0 - 1] != "--out" }
    for _ in 0..<Int.random(in: 1...2, using: &generator) {
      call[places.randomElement(using: &generator)!] = Self.values.randomElement(using: &generator)!
    }
    try? FileManager.default.removeItem(at: folder.appending(path: "run"))
    return try ended(call)
  }

  /// Resumes, continues or reports a run of which one file is damaged.
  private func faultOfRun(_ generator: inout SeededGenerator) throws -> String? {
    let run = folder.appending(path: "damaged")
    try? FileManager.default.removeItem(at: run)
    try FileManager.default.copyItem(at: folder.appending(path: "whole"), to: run)
    let name = ["run.json", "metrics.jsonl", "routing.json"].randomElement(using: &generator)!
    let file = run.appending(path: name)
    try damage(file, &generator)
    let call = [
      ["train", "--out", run.path, "--resume", "--steps", "2", "--threads", "1"],
      ["generate", run.path, "--bytes", "2", "--threads", "1"], ["report", run.path],
      ["plan", "--experts", "4", "--top-k", "1", "--hidden", "64", "--ffn", "64", "--load", run.path],
    ].randomElement(using: &generator)!
    return try ended(call, keeping: file)
  }

  /// Applies a layer of a checkpoint with a damaged config.json.
  private func faultOfCheckpoint(_ generator: inout SeededGenerator) throws -> String? {
    let checkpoint = folder.appending(path: "checkpoint")
    try? FileManager.default.removeItem(at: checkpoint)
    let name = ["mixtral", "qwen2_moe", "gpt_oss", "deepseek_v3", "switch_transformers"].randomElement(
      using: &generator)!
    try FileManager.default.copyItem(at: URL(filePath: "\(fixtures)/\(name)"), to: checkpoint)
    let config = checkpoint.appending(path: "config.json")
    try damage(config, &generator)
    let layer = name == "switch_transformers" ? "encoder.1" : "1"
    return try ended(
      [
        "apply", checkpoint.path, "--layer", layer, "--input", "\(fixtures)/\(name)/expected.safetensors",
        "--tensor",
        "layers.\(layer).input", "--output", folder.appending(path: "y.safetensors").path, "--threads", "1",
      ], keeping: config)
  }

  private func damage(_ file: URL, _ generator: inout SeededGenerator) throws {
    var mutator = Mutator(seed: generator.next())
    let text = Array(try Data(contentsOf: file))
    try Data(mutator.damage(text: text, other: text)).write(to: file)
  }

  private func ended(_ call: [String], keeping file: URL) throws -> String? {
    guard let fault = try ended(call) else { return nil }
    let name = file.lastPathComponent
    let kept = folder.deletingLastPathComponent().appending(path: "moe-fuzz-\(name)")
    try Data(contentsOf: file).write(to: kept)
    return "\(fault), with \(kept.path) as \(name)"
  }

  private func ended(_ call: [String]) throws -> String? {
    guard let status = try run(call), status >= 128 else { return nil }
    return "status \(status): moe \(call.map { "'\($0)'" }.joined(separator: " "))"
  }

  /// Returns the status as a shell has it, 128 and more for a signal; nil where the call took more than five seconds.
  private func run(_ arguments: [String]) throws -> Int32? {
    let process = Process()
    // Sizes that are allowed may still need more memory than the machine has.
    process.executableURL = URL(filePath: "/bin/sh")
    process.arguments = ["-c", "ulimit -v 8000000; exec \"$@\"", "sh", moe] + arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    let hasEnded = DispatchSemaphore(value: 0)
    process.terminationHandler = { _ in hasEnded.signal() }
    try process.run()
    if hasEnded.wait(timeout: .now() + 5) == .timedOut {
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      return nil
    }
    return process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
  }
}
