import CKernels
import MoE

/// A layer's parameters as the C kernels read them: one layout for all instruction sets.
///
/// - Precondition: D and F are multiples of 32, as in every shape of the bench.
final class KernelWeights {
  let shape: Shape
  let precision: Precision
  let router: Buffer<UInt8>
  let up: Buffer<UInt8>
  let down: Buffer<UInt8>

  init(_ weights: RandomWeights, execution: moe_execution) throws {
    shape = weights.shape
    precision = weights.precision
    let (hidden, feedForward) = (shape.hiddenSize, shape.feedForwardSize)
    precondition(hidden % 32 == 0 && feedForward % 32 == 0)
    let type = precision.kernelType
    let panel = Int(MOE_PANEL)
    let parts = shape.isGated ? 2 : 1
    let upPanel = moe_panels_bytes(type, 1, Int64(hidden))
    let downPanel = moe_panels_bytes(type, 1, Int64(feedForward))
    let upPanels = parts * feedForward / panel
    let downPanels = hidden / panel

    func pack(_ matrix: Matrix, _ type: moe_format, into memory: UnsafeMutablePointer<UInt8>, stride: Int) {
      _ = matrix.withUnsafeBufferPointer { elements in
        moe_pack_panels(
          execution, type, elements.baseAddress, Int64(matrix.rows), Int64(matrix.columns), memory,
          Int64(stride))
      }
    }

    let routerPanels = (shape.expertCount + panel - 1) / panel
    router = try Buffer(moe_panels_bytes(MOE_FLOAT32, Int64(routerPanels), Int64(hidden)))
    up = try Buffer(shape.expertCount * upPanels * upPanel)
    down = try Buffer(shape.expertCount * downPanels * downPanel)
    pack(weights.router().weight, MOE_FLOAT32, into: router.base, stride: 1)
    for index in 0..<shape.expertCount {
      let expert = weights.expert(index)
      let first = up.base + index * upPanels * upPanel
      for (part, matrix) in [expert.gate, expert.up].compactMap({ $0 }).enumerated() {
        pack(matrix, type, into: first + part * upPanel, stride: parts)
      }
      pack(expert.down, type, into: down.base + index * downPanels * downPanel, stride: 1)
    }
  }
}
