import CKernels
import MoE

/// What this machine does at most, measured before and between the rounds. The best ever seen counts: a
/// busy moment lowers a limit and would flatter what is held against it.
final class Limits {
  /// An instruction set and a type that have a multiply-add rate.
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

  /// Measures over 512 MiB, far more than a last-level cache, and not of zeros, whose pages a hypervisor may
  /// merge.
  init(threadCount: Int) throws {
    self.threadCount = threadCount
    memory = try Buffer(128 << 20)
    for index in 0..<memory.count { memory[index] = Float(index) }
    _ = measureRead(rounds: 3)
  }

  /// FLOP/s of `arithmetic`.
  func flopsPerSecond(_ arithmetic: Arithmetic) -> Double {
    flops[arithmetic] ?? measureFlops(arithmetic, seconds: 0.05)
  }

  /// Measures again what `contenders` are held against.
  func refresh(for contenders: [Contender]) {
    _ = measureRead(rounds: 1)
    for arithmetic in Set(contenders.map(\.arithmetic)) { _ = measureFlops(arithmetic, seconds: 0.01) }
  }

  /// Bytes/s read just now.
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

  /// A sentence where the threads together do not do what one alone promises: something else is on the cores,
  /// or the threads share one, and no figure of this run is worth quoting.
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

  /// The same on one line.
  var line: String {
    let rates = summary.sorted { $0.key < $1.key }
    return rates.map { name, rate in
      "\(name) \(fixed(rate, 1)) \(["read", "update"].contains(name) ? "GB/s" : "GFLOP/s")"
    }.joined(separator: ", ")
  }
}
