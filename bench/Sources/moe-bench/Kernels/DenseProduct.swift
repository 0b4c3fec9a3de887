import CSystemBLAS
import MoE

/// C [M,N] = A [M,K]·B [N,K]ᵀ by OpenBLAS: the baseline of the same FLOPs without ragged groups, with the weights of a
/// single expert, and without an activation.
final class DenseProduct {
  private let rows: Int
  private let columns: Int
  private let depth: Int
  private let a: Buffer<Float>
  private let b: Buffer<Float>
  private let c: Buffer<Float>

  init(rows: Int, columns: Int, depth: Int) throws {
    self.rows = rows
    self.columns = columns
    self.depth = depth
    a = try Buffer(rows * depth)
    b = try Buffer(columns * depth)
    c = try Buffer(rows * columns)
    a.fillNormal(seed: 8)
    b.fillNormal(seed: 9)
  }

  var name: String { "M=\(rows) N=\(columns) K=\(depth)" }

  var work: Work {
    Work(
      flops: 2 * Double(rows * columns * depth),
      bytes: Double(4 * (rows * depth + columns * depth + rows * columns)))
  }

  /// Returns a contender that has been checked and uses as many threads as the kernels.
  func contender(_ session: Session) throws -> Contender {
    openblas_set_num_threads(Int32(session.threadCount))
    multiply()
    let error = error()
    try require(error, atMost: roundings(depth), "OpenBLAS \(name)")
    return Contender(
      name: "openblas sgemm", arithmetic: .init(instructionSet: .best, precision: .float32), team: .openBLAS,
      error: error, run: multiply)
  }

  private func multiply() {
    cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, Int32(rows), Int32(columns), Int32(depth), 1, a.base,
      Int32(depth), b.base, Int32(depth), 0, c.base, Int32(columns))
  }

  /// Returns the relative RMS error of about a thousand elements.
  private func error() -> Double {
    var (actual, expected) = ([Double](), [Double]())
    for index in stride(from: 0, to: rows * columns, by: rows * columns / 1000 + 1) {
      let (row, column) = (index / columns, index % columns)
      var sum = 0.0
      for k in 0..<depth { sum += Double(a[row * depth + k]) * Double(b[column * depth + k]) }
      expected.append(sum)
      actual.append(Double(c[index]))
    }
    return relativeRMS(actual, expected)
  }
}
