public import ArgumentParser
import CKernels
public import MoE

/// The options of every subcommand.
struct ExecutionOptions: ParsableArguments {
  @Option(help: "The number of threads. (default: OMP_NUM_THREADS, or the processors there are)")
  var threads: Int?

  @Option(help: "Instruction sets, separated by commas: \(InstructionSet.names).")
  var isa: CommaList<InstructionSet>?

  @Flag(help: "Print one JSON object.")
  var json = false

  func validate() throws {
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads), expected 1 to 1024")
    }
    for instructionSet in isa?.elements ?? [] where !instructionSet.isSupported {
      throw ValidationError("--isa is \(instructionSet), which this CPU does not run")
    }
  }

  var threadCount: Int { threads ?? Int(moe_default_threads()) }
}

/// The options for the duration of a measurement.
struct EffortOptions: ParsableArguments {
  @Option(help: "Rounds in which every contender has a turn.")
  var rounds = 5

  @Option(help: "Seconds of a turn.")
  var seconds = 0.2

  func validate() throws {
    if rounds < 1 { throw ValidationError("--rounds is \(rounds), expected at least 1") }
    if !(seconds >= 0) { throw ValidationError("--seconds is \(seconds), expected at least 0") }
  }

  var effort: Effort { Effort(rounds: rounds, seconds: seconds) }
}

/// Values separated by commas.
struct CommaList<Element: ExpressibleByArgument>: ExpressibleByArgument {
  let elements: [Element]

  init(_ elements: [Element]) { self.elements = elements }

  init?(argument: String) {
    let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
    let parsed = parts.compactMap { Element(argument: String($0)) }
    guard parsed.count == parts.count else { return nil }
    elements = parsed
  }

  var defaultValueDescription: String {
    elements.map(\.defaultValueDescription).joined(separator: ",")
  }
}

extension InstructionSet: @retroactive ExpressibleByArgument {
  fileprivate static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }
}

extension Precision: @retroactive ExpressibleByArgument {}
