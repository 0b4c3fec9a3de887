import CKernels
import MoE

/// The kernels' own names of what the Swift API calls instruction sets and precisions.
extension moe_execution {
  init(_ instructionSet: InstructionSet, _ threadCount: Int) {
    let index = InstructionSet.allCases.firstIndex(of: instructionSet)!
    self.init(isa: moe_isa(rawValue: UInt32(index)), threads: Int32(threadCount))
  }
}

extension InstructionSet {
  /// The best of this CPU.
  static var best: InstructionSet { supported.last! }
}

extension Precision {
  var kernelType: moe_format { self == .float32 ? MOE_FLOAT32 : MOE_BFLOAT16 }
  /// Bytes of one weight.
  var byteCount: Int { self == .float32 ? 4 : 2 }
}
