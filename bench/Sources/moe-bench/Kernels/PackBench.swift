import CKernels
import MoE

/// The packing of weights into panels, done once per layer: plain loops, the same on every instruction set.
enum PackBench: KernelBench {
  static let name = "pack"

  static func run(_ session: Session) throws {
    let sizes = session.isQuick ? [(512, 512)] : [(3584, 1024), (768, 2048)]
    for (rows, columns) in sizes {
      for precision in Precision.allCases { try time(rows, columns, precision, session) }
    }
  }

  private static func time(
    _ rows: Int, _ columns: Int, _ precision: Precision, _ session: Session
  ) throws {
    let execution = session.bestExecution
    let matrix = try Buffer<Float>(rows * columns)
    matrix.fillNormal(seed: 1)
    let panels = (rows + Int(MOE_PANEL) - 1) / Int(MOE_PANEL)
    let bytes = moe_panels_bytes(precision.kernelType, Int64(panels), Int64(columns))
    let packed = try Buffer<UInt8>(bytes)
    func pack() {
      moe_pack_panels(
        execution, precision.kernelType, matrix.base, Int64(rows), Int64(columns), packed.base, 1)
    }
    pack()
    let problem = "N=\(rows) K=\(columns) \(precision)"
    let wrong = misplaced(matrix, rows, columns, packed, precision)
    try require(Double(wrong), atMost: 0, "pack \(problem)")
    let work = Work(bytes: Double(4 * rows * columns + bytes))
    let contender = Contender(
      name: "any isa", arithmetic: .init(instructionSet: .best, precision: .float32), error: Double(wrong),
      run: pack)
    try session.time(bench: name, problem: problem, work: work, [contender])
  }

  /// Returns the number of misplaced elements, for K and N that need no padding: panel[p][k][n] = W[16p + n][k] in
  /// fp32, and panel[p][k/2][n][k mod 2] in bfloat16.
  private static func misplaced(
    _ matrix: Buffer<Float>, _ rows: Int, _ columns: Int, _ packed: Buffer<UInt8>, _ precision: Precision
  ) -> Int {
    var rounded = Matrix(rows: 1, columns: columns)
    var wrong = 0
    for row in 0..<rows {
      for k in 0..<columns { rounded[0, k] = matrix[row * columns + k] }
      if precision == .bfloat16 { rounded.roundToBFloat16() }
      for k in 0..<columns {
        let panel = row / 16 * 16 * columns
        let found: Float
        switch precision {
        case .float32:
          found = packed.floats[panel + k * 16 + row % 16]
        case .bfloat16:
          let pairs = UnsafeMutableRawPointer(packed.base).assumingMemoryBound(to: UInt16.self)
          let bits = pairs[panel + k / 2 * 32 + row % 16 * 2 + k % 2]
          found = Float(bitPattern: UInt32(bits) << 16)
        }
        if found != rounded[0, k] { wrong += 1 }
      }
    }
    return wrong
  }
}
