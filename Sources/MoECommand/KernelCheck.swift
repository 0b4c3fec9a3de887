import MoE
import MoEReference

/// Compares the kernels with the oracle, for every policy and instruction set.
struct KernelCheck {
  let sets: [InstructionSet]
  let threadCount: Int

  /// fp32: γ of the longest chain of multiply-adds, 2·D + F + 64 roundings of 2⁻²⁴, as in `Tests/MoETests`.
  /// bfloat16 has the oracle round the same operands, of which some round the other way: 2⁻⁸ of a few.
  private static func bound(_ precision: Precision, _ configuration: MoEConfiguration) -> Double {
    let roundings = 2 * configuration.hiddenSize + configuration.feedForwardSize + 64
    return precision == .float32 ? Double(roundings) * 0x1p-24 : 0x1p-8
  }

  /// Prints the table and returns the number of rows that are out of bounds.
  func run() throws -> Int {
    var table = TextTable("policy", "ISA", "dtype", "error", "bound", "routes off", "")
    var failures = 0
    for row in CheckCase.all {
      let configuration = try row.configuration()
      let weights = MoEWeights.random(for: configuration, seed: 1)
      let input = row.input
      for precision in Precision.allCases {
        let layer = try MoELayer(configuration, weights: weights, precision: precision)
        let expected = try Reference.layer(
          input, weights: weights, configuration: configuration,
          precision: precision == .float32 ? .exact : .bfloat16)
        for set in sets {
          let execution = try Execution(instructionSet: set, threadCount: threadCount)
          let (output, record) = try layer(input, execution: execution)
          let error = relativeRMS(output.tokens.elements, expected.output.flatMap { $0 })
          let ids = expected.routing.expertIDs.flatMap { $0 }
          let off = zip(record.expertIDs, ids).count { Int($0) != $1 }
          let bound = Self.bound(precision, configuration)
          let isRight = error <= bound && off == 0
          if !isRight { failures += 1 }
          table.add(
            row.name, "\(set)", "\(precision)", scientific(error), scientific(bound), "\(off)",
            isRight ? "ok" : "WRONG")
        }
      }
    }
    table.write()
    StandardStream.output.line(failures == 0 ? "all within bounds" : "\(failures) rows are out of bounds")
    return failures
  }
}
