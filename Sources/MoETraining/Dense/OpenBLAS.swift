internal import COpenBLAS
internal import Foundation
internal import MoE

/// The dense matrix products of attention and output projection.
///
/// Tasks of this library's own threads call OpenBLAS with one thread each, so the two do not compete for cores, and
/// the bits of a product depend only on its shape.
public enum OpenBLAS {
  /// The version and options of OpenBLAS, and the CPU that it computes for. OPENBLAS_CORETYPE in the environment sets
  /// this CPU.
  public static var description: String {
    prepare
    let config = unsafe String(cString: openblas_get_config()).split(separator: " ").joined(separator: " ")
    return unsafe "\(config), kernels for \(String(cString: openblas_get_corename()))"
  }

  /// Sets OpenBLAS to one thread and to kernels that use this CPU, once per process.
  static let prepare: Void = {
    openblas_set_num_threads(1)
    useKernelsOfThisCPU()
  }()

  /// Replaces the kernels that an OpenBLAS older than the CPU falls back to.
  ///
  /// OpenBLAS takes the kernels for Prescott, which have no AVX, for every Intel CPU that it does not know: training is
  /// then 2.4 times slower (OpenBLAS 0.3.21 of Debian 12 on a CPU with AVX-512). The functions that choose the kernels
  /// are exported, but not declared in its headers; without them, or with OPENBLAS_CORETYPE, nothing is replaced.
  private static func useKernelsOfThisCPU() {
    let name = "OPENBLAS_CORETYPE"
    guard unsafe String(cString: openblas_get_corename()) == "Prescott", unsafe getenv(name) == nil,
      let core = InstructionSet.avx512.isSupported
        ? "SkylakeX" : InstructionSet.avx2.isSupported ? "Haswell" : nil,
      let quit = unsafe dlsym(nil, "gotoblas_dynamic_quit"),
      let initialize = unsafe dlsym(nil, "gotoblas_dynamic_init")
    else { return }
    typealias Function = @convention(c) () -> Void
    _ = unsafe setenv(name, core, 1)
    unsafe unsafeBitCast(quit, to: Function.self)()
    unsafe unsafeBitCast(initialize, to: Function.self)()
    _ = unsafe unsetenv(name)
  }

  /// A matrix of a product: rows of `stride` floats.
  @unsafe struct Operand {
    let base: UnsafePointer<Float>
    let stride: Int
    let isTransposed: Bool

    init(_ base: UnsafePointer<Float>, stride: Int, isTransposed: Bool = false) {
      unsafe self.base = unsafe base
      unsafe self.stride = stride
      unsafe self.isTransposed = isTransposed
    }
  }

  /// Computes c [m, n] = a [m, k] · b [k, n], or c += a·b, on the calling thread.
  static func multiply(
    _ a: Operand, _ b: Operand, m: Int, n: Int, k: Int, into c: UnsafeMutablePointer<Float>, stride: Int,
    accumulates: Bool = false
  ) {
    unsafe cblas_sgemm(
      CblasRowMajor, a.isTransposed ? CblasTrans : CblasNoTrans, b.isTransposed ? CblasTrans : CblasNoTrans,
      Int32(m), Int32(n), Int32(k), 1, a.base, Int32(a.stride), b.base, Int32(b.stride),
      accumulates ? 1 : 0, c, Int32(stride))
  }
}
