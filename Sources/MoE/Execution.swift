package import CKernels
public import MoECore

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Darwin)
  internal import Darwin
#endif

/// A set of vector instructions that the kernels are compiled for. The cases are in order from worst to best.
public enum InstructionSet: String, Sendable, CaseIterable, CustomStringConvertible {
  /// Any CPU.
  case scalar
  /// AVX2 and FMA.
  case avx2
  /// AVX-512 F, BW, DQ and VL.
  case avx512
  /// AVX-512 with BF16 dot products.
  case avx512bf16

  /// The name that `MOE_ISA` and `--isa` use.
  public var description: String { rawValue }

  /// Whether this CPU supports the instruction set.
  public var isSupported: Bool { moe_isa_supported(cValue) }

  /// The instruction sets that this CPU supports, from worst to best.
  public static var supported: [InstructionSet] { allCases.filter(\.isSupported) }

  package var cValue: moe_isa { moe_isa(rawValue: UInt32(InstructionSet.allCases.firstIndex(of: self)!)) }
}

/// The way in which a layer is computed: the instruction set and the number of threads. `MoEConfiguration` says what
/// the layer computes. The result has the same bits for any number of threads.
public struct Execution: Sendable, Equatable {
  /// The instruction set.
  public let instructionSet: InstructionSet
  /// The number of threads, at least 1.
  public let threadCount: Int

  /// Chooses how to compute.
  ///
  /// - Parameters:
  ///   - instructionSet: the instruction set; nil for the best one of this CPU, lowered by the environment variable
  ///     `MOE_ISA`.
  ///   - threadCount: the number of threads; nil for the first number of `OMP_NUM_THREADS` or, without that variable,
  ///     the number of processors that affinity and control groups leave to this process. `OMP_THREAD_LIMIT` lowers
  ///     both defaults.
  /// - Throws: `MoEError.unsupported` for an instruction set that this CPU lacks and for an unknown name, and
  ///   `MoEError.invalidConfiguration` for fewer than 1 or more than 1024 threads, for more threads than
  ///   `OMP_THREAD_LIMIT`, and for an environment variable of OpenMP that cannot be used.
  public init(instructionSet: InstructionSet? = nil, threadCount: Int? = nil) throws(MoEError) {
    let chosen =
      if let instructionSet { instructionSet } else { try Execution.preferredInstructionSet() }
    guard chosen.isSupported else {
      throw .unsupported("this CPU does not run \(chosen); it runs \(Execution.list(.supported))")
    }
    try Execution.requireUsableEnvironment(readsThreadCount: threadCount == nil)
    let threads = threadCount ?? Int(moe_default_threads())
    guard (1...1024).contains(threads) else {
      throw .invalidConfiguration("the number of threads is \(threads), expected 1 to 1024")
    }
    // Only a requested number can exceed the limit. The OpenMP runtime would start fewer threads and only warn.
    let limit = Int(moe_thread_limit())
    guard threads <= limit else {
      throw .invalidConfiguration(
        "the number of threads is \(threads), but OMP_THREAD_LIMIT allows \(limit); lower one or raise the other"
      )
    }
    self.instructionSet = chosen
    self.threadCount = threads
  }

  /// The best instruction set of this CPU, lowered by `MOE_ISA`, with all threads. It is determined once.
  ///
  /// - Throws: `MoEError.unsupported` if `MOE_ISA` names an instruction set that this CPU lacks.
  public static func automatic() throws(MoEError) -> Execution { try found.get() }

  private static let found = Result<Execution, MoEError> { () throws(MoEError) in try Execution() }

  /// Throws an error that names the first environment variable of OpenMP that cannot be used.
  private static func requireUsableEnvironment(readsThreadCount: Bool) throws(MoEError) {
    var fault = unsafe moe_variable()
    guard unsafe moe_environment_fault(readsThreadCount, &fault) else { return }
    let (name, value) = unsafe (String(cString: fault.name), String(cString: fault.value))
    throw unsafe .invalidConfiguration("\(name) is “\(value)”, expected \(String(cString: fault.expected))")
  }

  /// Reads `MOE_ISA`; an empty value counts as unset.
  private static func preferredInstructionSet() throws(MoEError) -> InstructionSet {
    guard let name = unsafe getenv("MOE_ISA"), unsafe name.pointee != 0 else {
      return InstructionSet.supported.last!
    }
    let text = unsafe String(cString: name)
    guard let set = InstructionSet(rawValue: text) else {
      throw .unsupported("MOE_ISA is \"\(text)\", expected one of \(list(InstructionSet.allCases))")
    }
    return set
  }

  private static func list(_ sets: [InstructionSet]) -> String {
    sets.map(\.rawValue).joined(separator: ", ")
  }

  package var cValue: moe_execution { moe_execution(isa: instructionSet.cValue, threads: Int32(threadCount)) }
}

extension [InstructionSet] {
  fileprivate static var supported: [InstructionSet] { InstructionSet.supported }
}
