import ArgumentParser
import MoE

/// `moe-bench kernels`
struct KernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernels",
    abstract: "Times each kernel on every instruction set.",
    discussion: """
      The limit of a row is the multiply-add rate of its instruction set or the rate at which memory is read, \
      whichever allows less; the share is what the median reaches of it. What stays in cache may exceed 100 %.

      Example: moe-bench kernels --filter grouped_gemm --threads 2 --isa avx2,avx512
      """)

  @Option(help: "Only kernels whose name contains this: \(Self.names).")
  var filter: String?

  @Flag(help: "A few small cases in less than 20 seconds, to see that everything works.")
  var quick = false

  @OptionGroup var execution: ExecutionOptions
  @OptionGroup var effort: EffortOptions

  private static var names: String { kernelBenches.map { $0.name }.joined(separator: ", ") }

  func validate() throws {
    if let filter, !kernelBenches.contains(where: { $0.name.contains(filter) }) {
      throw ValidationError("no kernel's name contains \"\(filter)\"; there are \(Self.names)")
    }
  }

  func run() throws {
    let session = try Session(
      instructionSets: execution.isa?.elements ?? InstructionSet.supported,
      threadCount: execution.threadCount, effort: quick ? .quick : effort.effort, isQuick: quick,
      printsLines: !execution.json)
    for bench in kernelBenches where filter.map(bench.name.contains) ?? true { try bench.run(session) }
    session.limits.notice().map(printError)
    if execution.json {
      try printJSON(
        KernelsReport(threads: session.threadCount, limits: session.limits.summary, rows: session.rows))
    } else {
      printLine("limits with \(session.threadCount) threads: \(session.limits.line)")
    }
  }
}

/// The output of `--json`: limits in GFLOP/s and GB/s, then the rows.
private struct KernelsReport: Encodable {
  let threads: Int
  let limits: [String: Double]
  let rows: [Row]
}
