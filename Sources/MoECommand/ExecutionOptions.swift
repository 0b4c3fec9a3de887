public import ArgumentParser
public import MoE

extension InstructionSet: ExpressibleByArgument {}
extension Precision: ExpressibleByArgument {}

/// `--threads` and `--isa`, which every command takes.
struct ExecutionOptions: ParsableArguments {
  @Option(help: "Threads; without it OMP_NUM_THREADS, or all processors this process may use.")
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "Instruction set; without it MOE_ISA, or the best this CPU runs.",
      valueName: InstructionSet.allCases.map(\.rawValue).joined(separator: "|")))
  var isa: InstructionSet?

  func validate() throws {
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads), expected 1 to 1024")
    }
  }

  func execution() throws -> Execution { try Execution(instructionSet: isa, threadCount: threads) }
}
