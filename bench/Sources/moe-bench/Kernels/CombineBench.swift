import CKernels
import MoE

/// The combine: the weighted sum of each token's rows, in slot order.
enum CombineBench: KernelBench {
  static let name = "combine"

  static func run(_ session: Session) throws {
    let hiddenSize = session.isQuick ? 512 : 2048
    for (expertCount, expertsPerToken) in session.isQuick ? [(8, 2)] : [(8, 2), (128, 8)] {
      let permutation = try RandomPermutation(
        tokenCount: 4096, expertCount: expertCount, expertsPerToken: expertsPerToken)
      permutation.permute(session.bestExecution)
      let rows = try Buffer<Float>(permutation.choices * hiddenSize)
      rows.fillNormal(seed: 6)
      let output = try Buffer<Float>(4096 * hiddenSize)
      let problem = "T=4096 D=\(hiddenSize) E=\(expertCount) K=\(expertsPerToken)"
      let contenders = try session.instructionSets.map { instructionSet in
        let execution = session.execution(instructionSet)
        func combine() {
          var choices = moe_choices(
            T: 4096, K: Int64(expertsPerToken), D: Int64(hiddenSize), y: rows.base,
            choice_row: permutation.choiceRow.base, weights: permutation.expertWeights.base)
          moe_combine(execution, &choices, nil, output.base)
        }
        combine()
        let error = error(of: output, rows, permutation, hiddenSize)
        try require(error, atMost: roundings(expertsPerToken), "combine \(problem) on \(instructionSet)")
        return Contender(
          name: instructionSet.rawValue,
          arithmetic: .init(instructionSet: instructionSet, precision: .float32), error: error,
          run: combine)
      }
      let work = Work(
        flops: Double(2 * permutation.choices * hiddenSize),
        bytes: Double(4 * (permutation.choices + 4096) * hiddenSize))
      try session.time(bench: name, problem: problem, work: work, contenders)
    }
  }

  /// Returns the relative RMS error of 64 tokens against out[t] = Σₖ w[t,k]·y[row of (t,k)] in Double.
  private static func error(
    of output: Buffer<Float>, _ rows: Buffer<Float>, _ permutation: RandomPermutation, _ hiddenSize: Int
  ) -> Double {
    var (actual, expected) = ([Double](), [Double]())
    for token in stride(from: 0, to: permutation.tokenCount, by: permutation.tokenCount / 64) {
      for d in 0..<hiddenSize {
        var sum = 0.0
        for choice in 0..<permutation.expertsPerToken {
          let at = token * permutation.expertsPerToken + choice
          let row = Int(permutation.choiceRow[at])
          sum += Double(permutation.expertWeights[at]) * Double(rows[row * hiddenSize + d])
        }
        expected.append(sum)
        actual.append(Double(output[token * hiddenSize + d]))
      }
    }
    return relativeRMS(actual, expected)
  }
}
