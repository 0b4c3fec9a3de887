import Glibc
import MoECheckpoints
import MoECore

/// Feeds damaged checkpoints to the readers. Each is either accepted or refused with an error of ours that is one
/// line long; a crash is a crash, and the last line printed tells how to repeat it.
@main struct Fuzz {
  static let usage = """
    usage: moe-fuzz [--count N] [--seed S] [FOLDER]
      Reads N (default 100000) checkpoints damaged at random, the same ones for the same seed S (default 1).
      FOLDER holds checkpoint folders to damage beside the built-in ones, such as Tests/Fixtures.
    """

  static func main() {
    var (count, seed, folder) = (100_000, 1 as UInt64, nil as String?)
    var arguments = CommandLine.arguments.dropFirst()
    while let argument = arguments.popFirst() {
      switch argument {
      case "--count": count = number(after: argument, &arguments)
      case "--seed": seed = number(after: argument, &arguments)
      case "--help":
        print(usage)
        return
      default:
        if argument.hasPrefix("-") || folder != nil { fail("unexpected argument \(argument)") }
        folder = argument
      }
    }
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
      if (number + 1).isMultiple(of: 10_000) {
        print("\(number + 1) read; to go on from here: --seed \(seed &+ UInt64(number + 1))")
        fflush(nil)
      }
    }
    print("\(count) damaged checkpoints: \(accepted) accepted, \(count - accepted) refused, no crash")
  }

  /// Reads all there is to read.
  static func isAccepted(_ files: [String: [UInt8]]) -> Bool {
    do {
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
      return true
    } catch {
      guard error is CheckpointError || error is MoEError, !"\(error)".contains("\n") else {
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
