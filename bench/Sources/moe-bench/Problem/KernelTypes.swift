import CKernels
import MoE

/// The kernels' C types for the instruction sets and precisions of the Swift API.
extension moe_execution {
  init(_ instructionSet: InstructionSet, _ threadCount: Int) {
    let index = InstructionSet.allCases.firstIndex(of: instructionSet)!
    self.init(isa: moe_isa(rawValue: UInt32(index)), threads: Int32(threadCount))
  }
}

extension InstructionSet {
  /// The best instruction set of this CPU.
  static var best: InstructionSet { supported.last! }
}

extension Precision {
  var kernelType: moe_format { self == .float32 ? MOE_FLOAT32 : MOE_BFLOAT16 }
  /// The size of one weight in bytes.
  var byteCount: Int { self == .float32 ? 4 : 2 }
}
