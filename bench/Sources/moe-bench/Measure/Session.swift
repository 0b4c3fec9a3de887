import CKernels
import MoE

/// One run of the tool: its executions, its effort and its results.
final class Session {
  let instructionSets: [InstructionSet]
  let threadCount: Int
  let effort: Effort
  /// Whether to time a few small cases only.
  let isQuick: Bool
  let limits: Limits
  private(set) var rows: [Row] = []
  private let printsLines: Bool

  init(
    instructionSets: [InstructionSet], threadCount: Int, effort: Effort, isQuick: Bool, printsLines: Bool
  ) throws {
    self.instructionSets = instructionSets
    self.threadCount = threadCount
    self.effort = effort
    self.isQuick = isQuick
    self.printsLines = printsLines
    limits = try Limits(threadCount: threadCount)
    if printsLines { printLine(Row.header) }
  }

  /// Returns the C execution of an instruction set.
  func execution(_ instructionSet: InstructionSet) -> moe_execution {
    moe_execution(instructionSet, threadCount)
  }

  /// The execution for kernels that are the same on all instruction sets.
  var bestExecution: moe_execution { execution(.best) }

  /// Times `contenders` on the same work and reports them.
  func time(bench: String, problem: String, work: Work, _ contenders: [Contender]) throws {
    let timings = try timeInRounds(contenders, effort, limits: limits)
    let scalar = contenders.firstIndex { $0.name.hasSuffix(InstructionSet.scalar.rawValue) }
    for (contender, times) in zip(contenders, timings) {
      let row = Row(
        bench: bench, problem: problem, contender: contender, timings: times,
        scalarMedian: scalar.map { timings[$0].median }, work: work, limits: limits)
      rows.append(row)
      if printsLines { printLine(row.line) }
    }
  }
}
