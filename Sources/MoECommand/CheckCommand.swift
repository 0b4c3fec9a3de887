import ArgumentParser
import Foundation
import MoE
import MoECheckpoints
import MoEReference

/// Compares the kernels with the oracle on this machine.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Compare the kernels with the oracle in Double on this machine.",
    discussion: """
      Each row is a layer of 160 tokens under one routing policy; the error is the relative RMS difference \
      of the output. With --fixtures every checkpoint folder below it that has an expected.safetensors is \
      run as `moe apply` runs it and compared with that file. With --gradients the errors are those of the \
      gradients of input, router, experts and dense branch, and then of each loss of the router alone.

      Examples:
        moe check
        moe check --isa avx2
        moe check --gradients
        moe check --fixtures Tests/Fixtures
      """)

  @Option(help: "A folder of checkpoint folders with expected outputs.") var fixtures: String?
  @Flag(help: "Compare gradients instead of outputs.") var gradients = false
  @OptionGroup var options: ExecutionOptions

  func validate() throws {
    if gradients, fixtures != nil { throw ValidationError("--fixtures has no gradients to compare with") }
  }

  func run() throws {
    let execution = try options.execution()
    let sets = options.isa.map { [$0] } ?? InstructionSet.supported
    let failures =
      if let fixtures {
        try FixtureCheck(folder: fixtures, execution: execution).run()
      } else if gradients {
        try GradientCheck(sets: sets, threadCount: execution.threadCount).run()
          + LossCheck(sets: sets, threadCount: execution.threadCount).run()
      } else {
        try KernelCheck(sets: sets, threadCount: execution.threadCount).run()
      }
    if failures > 0 { throw ExitCode(1) }
  }
}
