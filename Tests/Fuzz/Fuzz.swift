import Foundation
import MoECheckpoints
import MoECore
import MoEPlan
import MoEReport
import MoERun
import MoETraining

/// Feeds damaged checkpoints and documents to the readers, and damaged options to the command. Each is either accepted
/// or refused with an error of ours that is one line long. A reader that traps ends this program; the last line printed
/// tells how to repeat it.
@main struct Fuzz {
  static let usage = """
    usage: moe-fuzz [--count N] [--documents N] [--calls N] [--moe PATH] [--seed S] [FOLDER]
      Reads N (default 100000) checkpoints and N (default 100000) documents damaged at random, and calls the command
      moe at PATH with N (default 0) sets of damaged options and files. Seed S (default 1) decides the damage.
      FOLDER holds checkpoint folders to damage beside the built-in ones, such as Tests/Fixtures.
    """

  static func main() {
    var (count, documentCount, callCount, seed) = (100_000, 100_000, 0, 1 as UInt64)
    var (folder, moe) = (nil as String?, nil as String?)
    var arguments = CommandLine.arguments.dropFirst()
    while let argument = arguments.popFirst() {
      switch argument {
      case "--count": count = number(after: argument, &arguments)
      case "--documents": documentCount = number(after: argument, &arguments)
      case "--calls": callCount = number(after: argument, &arguments)
      case "--moe": moe = arguments.popFirst()
      case "--seed": seed = number(after: argument, &arguments)
      case "--help":
        print(usage)
        return
      default:
        if argument.hasPrefix("-") || folder != nil { fail("unexpected argument \(argument)") }
        folder = argument
      }
    }
    readCheckpoints(count, seed: seed, folder)
    let scratch = FileManager.default.temporaryDirectory.appending(path: "moe-fuzz-\(getpid())")
    defer { try? FileManager.default.removeItem(at: scratch) }
    do {
      try readDocuments(documentCount, seed: seed, in: scratch.appending(path: "documents"))
      if callCount > 0 {
        guard let moe, let folder else { fail("--calls needs --moe and FOLDER") }
        let faults = try call(
          moe, callCount, seed: seed, fixtures: folder, in: scratch.appending(path: "calls"))
        if faults > 0 { exit(1) }
      }
    } catch {
      fail("\(error)")
    }
  }

  static func readCheckpoints(_ count: Int, seed: UInt64, _ folder: String?) {
    let seeds = builtInSeeds() + (folder.map(seedsInFolder) ?? [])
    for seed in seeds where !isAccepted(seed.files) {
      fail("the undamaged checkpoint \(seed.name) is refused")
    }
    print("\(seeds.count) checkpoints to damage")
    var accepted = 0
    for number in 0..<count {
      // Each input has its own generator, so that one of them can be repeated alone.
      var mutator = Mutator(seed: seed &+ UInt64(number))
      if isAccepted(mutator.damage(seeds)) { accepted += 1 }
      progress(number, "checkpoints", seed)
    }
    print("\(count) damaged checkpoints: \(accepted) accepted, \(count - accepted) refused, no crash")
  }

  static func readDocuments(_ count: Int, seed: UInt64, in folder: URL) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let all = try documents(in: folder)
    for document in all { try document.read(document.text) }
    var accepted = 0
    for number in 0..<count {
      var mutator = Mutator(seed: seed &+ UInt64(number))
      let document = all.randomElement(using: &mutator.generator)!
      let other = all.randomElement(using: &mutator.generator)!
      if isAccepted({ try document.read(mutator.damage(text: document.text, other: other.text)) }) {
        accepted += 1
      }
      progress(number, "documents", seed)
    }
    print("\(count) damaged documents: \(accepted) accepted, \(count - accepted) refused, no crash")
  }

  static func call(
    _ moe: String, _ count: Int, seed: UInt64, fixtures: String, in folder: URL
  ) throws -> Int {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let commands = try Commands(moe: moe, fixtures: fixtures, folder: folder)
    var faults = 0
    for number in 0..<count {
      var generator = SeededGenerator(seed: seed &+ UInt64(number))
      if let fault = try commands.fault(&generator) {
        faults += 1
        print(fault)
      }
    }
    print("\(count) calls with damaged options or files: \(faults) ended by a signal")
    return faults
  }

  private static func progress(_ number: Int, _ what: String, _ seed: UInt64) {
    if (number + 1).isMultiple(of: 10_000) {
      print("\(number + 1) \(what) read; to go on from here: --seed \(seed &+ UInt64(number + 1))")
      fflush(nil)
    }
  }

  /// Reads all tensors of a checkpoint.
  static func isAccepted(_ files: [String: [UInt8]]) -> Bool {
    isAccepted {
      for (name, bytes) in files where name.hasSuffix(".safetensors") {
        let file = try SafetensorsFile(bytes: bytes, name: name)
        for name in file.names {
          _ = try file.bytes(named: name)
          // Most tensors suit only some of these.
          _ = try? file.matrix(named: name)
          _ = try? file.floats(named: name)
          _ = try? file.integers(named: name)
        }
      }
      let checkpoint = try Checkpoint(files: files)
      for name in checkpoint.moeLayers.prefix(3) {
        let layer = try checkpoint.layer(name)
        _ = try MoEWeights(reading: layer, for: layer.configuration)
      }
    }
  }

  /// Whether `body` accepts what it reads; an error that is not ours ends the program.
  static func isAccepted(_ body: () throws -> Void) -> Bool {
    do {
      try body()
      return true
    } catch {
      let isOurs =
        error is CheckpointError || error is MoEError || error is TrainingError || error is RunError
        || error is PlanError
      guard isOurs, !"\(error)".contains("\n") else {
        fatalError("not an error of ours, or not one line: \(error)")
      }
      return false
    }
  }

  static func number<Number: FixedWidthInteger>(
    after option: String, _ arguments: inout ArraySlice<String>
  ) -> Number {
    guard let number = arguments.popFirst().flatMap({ Number($0) }), number >= 0 else {
      fail("\(option) takes a number")
    }
    return number
  }

  static func fail(_ complaint: String) -> Never {
    let text = "moe-fuzz: \(complaint)\n\(usage)\n"
    unsafe write(STDERR_FILENO, text, text.utf8.count)
    exit(64)
  }
}
