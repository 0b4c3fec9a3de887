import CKernels
import MoE

/// The gather: copies rows of tokens into the tiles that the grouped GEMM reads (`permute.c`).
enum GatherBench: KernelBench {
  static let name = "gather"

  static func run(_ session: Session) throws {
    let hiddenSize = session.isQuick ? 512 : 2048
    for (expertCount, expertsPerToken) in session.isQuick ? [(8, 2)] : [(8, 2), (128, 8)] {
      let permutation = try RandomPermutation(
        tokenCount: 4096, expertCount: expertCount, expertsPerToken: expertsPerToken)
      permutation.permute(session.bestExecution)
      let tokens = try Buffer<Float>(4096 * hiddenSize)
      tokens.fillNormal(seed: 5)
      let problem = "T=4096 D=\(hiddenSize) E=\(expertCount) K=\(expertsPerToken)"
      let contenders = try session.instructionSets.map { instructionSet in
        let gather = try Gather(permutation, tokens, hiddenSize, session.execution(instructionSet))
        let error = try gather.error()
        try require(error, atMost: 0, "gather \(problem) on \(instructionSet)")
        return Contender(
          name: instructionSet.rawValue,
          arithmetic: .init(instructionSet: instructionSet, precision: .float32), error: error,
          run: gather.run)
      }
      let elements = (4096 + permutation.choices) * hiddenSize
      try session.time(bench: name, problem: problem, work: Work(bytes: Double(4 * elements)), contenders)
    }
  }
}

/// The gather on one instruction set. The tile height depends on the instruction set.
private final class Gather {
  private let permutation: RandomPermutation
  private let tokens: Buffer<Float>
  private let hiddenSize: Int
  private let execution: moe_execution
  private let tiles: Buffer<UInt8>

  init(
    _ permutation: RandomPermutation, _ tokens: Buffer<Float>, _ hiddenSize: Int, _ execution: moe_execution
  ) throws {
    self.permutation = permutation
    self.tokens = tokens
    self.hiddenSize = hiddenSize
    self.execution = execution
    tiles = try Buffer(
      moe_rows_bytes(
        execution.isa, MOE_FLOAT32, Int64(permutation.choices), Int64(permutation.expertCount),
        Int64(hiddenSize)))
  }

  func run() {
    moe_gather_rows(
      execution, MOE_FLOAT32, groups, tokens.base, Int64(hiddenSize), permutation.rowToken.base, nil,
      tiles.base)
  }

  private var groups: moe_groups {
    moe_groups(E: Int64(permutation.expertCount), offsets: permutation.offsets.base)
  }

  /// Returns the largest error of 16 columns of every row. The grouped product reads the tiles back: with a single
  /// weight of 1 per column, y[m][n] is exactly the n-th sampled column of row m.
  func error() throws -> Double {
    run()
    let columns = (0..<16).map { $0 * (hiddenSize - 1) / 15 }
    var selection = Matrix(rows: 16, columns: hiddenSize)
    for (n, column) in columns.enumerated() { selection[n, column] = 1 }
    let panelBytes = moe_panels_bytes(MOE_FLOAT32, 1, Int64(hiddenSize))
    let panels = try Buffer<UInt8>(permutation.expertCount * panelBytes)
    for expert in 0..<permutation.expertCount {
      _ = selection.withUnsafeBufferPointer { elements in
        moe_pack_panels(
          execution, MOE_FLOAT32, elements.baseAddress, 16, Int64(hiddenSize),
          panels.base + expert * panelBytes,
          1)
      }
    }
    let scratch = try Buffer<UInt8>(
      moe_grouped_gemm_scratch_bytes(execution))
    let y = try Buffer<Float>(permutation.choices * 16)
    var networks = moe_networks()
    (networks.D, networks.F, networks.format) = (16, Int64(hiddenSize), MOE_FLOAT32)
    networks.down = UnsafeRawPointer(panels.base)
    moe_grouped_gemm_down(execution, &networks, groups, tiles.base, y.base, scratch.base)
    var largest = 0.0
    for row in 0..<permutation.choices {
      let token = Int(permutation.rowToken[row])
      for (n, column) in columns.enumerated() {
        largest = max(largest, Double(abs(y[row * 16 + n] - tokens[token * hiddenSize + column])))
      }
    }
    return largest
  }
}
