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
      run as `moe apply` runs it and compared with that file.

      Examples:
        moe check
        moe check --isa avx2
        moe check --fixtures Tests/Fixtures
      """)

  @Option(help: "A folder of checkpoint folders with expected outputs.") var fixtures: String?
  @OptionGroup var options: ExecutionOptions

  func run() throws {
    let execution = try options.execution()
    let failures =
      try fixtures.map { try FixtureCheck(folder: $0, execution: execution).run() }
      ?? KernelCheck(
        sets: options.isa.map { [$0] } ?? InstructionSet.supported, threadCount: execution.threadCount
      ).run()
    if failures > 0 { throw ExitCode(1) }
  }
}
