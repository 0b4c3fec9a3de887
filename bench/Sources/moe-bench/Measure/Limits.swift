import CKernels
import MoE

/// The highest rates of this machine, measured before and between the rounds. The best measured value counts: a busy
/// moment would lower a limit, and a result would then look too good.
final class Limits {
  /// An instruction set and a type, which have a multiply-add rate.
  struct Arithmetic: Hashable {
    let instructionSet: InstructionSet
    let precision: Precision
  }

  private let threadCount: Int
  private let memory: Buffer<Float>
  private var flops: [Arithmetic: Double] = [:]
  /// Bytes/s read from memory.
  private(set) var read = 0.0
  /// Bytes/s read from memory and written back, both counted.
  private(set) var update = 0.0

  /// Measures over 512 MiB, far more than a last-level cache. The values are not zero, because a hypervisor may merge
  /// pages of zeros.
  init(threadCount: Int) throws {
    self.threadCount = threadCount
    memory = try Buffer(128 << 20)
    for index in 0..<memory.count { memory[index] = Float(index) }
    _ = measureRead(rounds: 3)
  }

  /// Returns the FLOP/s of `arithmetic`.
  func flopsPerSecond(_ arithmetic: Arithmetic) -> Double {
    flops[arithmetic] ?? measureFlops(arithmetic, seconds: 0.05)
  }

  /// Measures the limits of `contenders` again.
  func refresh(for contenders: [Contender]) {
    _ = measureRead(rounds: 1)
    for arithmetic in Set(contenders.map(\.arithmetic)) { _ = measureFlops(arithmetic, seconds: 0.01) }
  }

  /// Measures the bytes/s read now.
  func measureRead(rounds: Int) -> Double {
    let execution = moe_execution(.best, threadCount)
    update = max(update, moe_measure_update(execution, memory.base, memory.count * 4, Int32(rounds)))
    let now = moe_measure_read(execution, memory.base, memory.count * 4, Int32(rounds))
    read = max(read, now)
    return now
  }

  private func measureFlops(_ arithmetic: Arithmetic, seconds: Double) -> Double {
    let execution = moe_execution(arithmetic.instructionSet, threadCount)
    let now = moe_measure_flops(execution, arithmetic.precision.kernelType, seconds)
    let best = max(flops[arithmetic] ?? 0, now)
    flops[arithmetic] = best
    return best
  }

  /// Returns a sentence if the threads together are slower than one thread alone promises. Then other work uses the
  /// cores, or the threads share a core, and no figure of this run is reliable.
  func notice() -> String? {
    guard threadCount > 1 else { return nil }
    let arithmetic = Arithmetic(instructionSet: .best, precision: .float32)
    let together = flopsPerSecond(arithmetic)
    let alone = moe_measure_flops(moe_execution(.best, 1), MOE_FLOAT32, 0.05)
    guard together < 0.75 * alone * Double(threadCount) else { return nil }
    return "note: \(threadCount) threads reach \(fixed(together / alone, 1)) times the multiply-adds of one; "
      + "is something else running?"
  }

  /// Every limit in GFLOP/s and GB/s, by name.
  var summary: [String: Double] {
    var named = ["read": read * 1e-9, "update": update * 1e-9]
    for (arithmetic, rate) in flops {
      named["\(arithmetic.instructionSet) \(arithmetic.precision)"] = rate * 1e-9
    }
    return named
  }

  /// All limits on one line.
  var line: String {
    let rates = summary.sorted { $0.key < $1.key }
    return rates.map { name, rate in
      "\(name) \(fixed(rate, 1)) \(["read", "update"].contains(name) ? "GB/s" : "GFLOP/s")"
    }.joined(separator: ", ")
  }
}
