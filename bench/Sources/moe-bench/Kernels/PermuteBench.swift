import MoE

/// The stable counting sort of choices by expert: integers, the same on every instruction set.
enum PermuteBench: KernelBench {
  static let name = "permute"

  static func run(_ session: Session) throws {
    for (expertCount, expertsPerToken) in session.isQuick ? [(8, 2)] : [(8, 2), (128, 8)] {
      let permutation = try RandomPermutation(
        tokenCount: 4096, expertCount: expertCount, expertsPerToken: expertsPerToken)
      let execution = session.bestExecution
      permutation.permute(execution)
      let misplaced = Double(permutation.misplacedChoices())
      let problem = "T=4096 E=\(expertCount) K=\(expertsPerToken)"
      try require(misplaced, atMost: 0, "permute \(problem)")
      // A choice is read as expert and weight, and written as row, slot, token and weight.
      let contender = Contender(
        name: "any isa", arithmetic: .init(instructionSet: .best, precision: .float32), error: misplaced,
        run: { permutation.permute(execution) })
      try session.time(
        bench: name, problem: problem, work: Work(bytes: Double(24 * permutation.choices)), [contender])
    }
  }
}
