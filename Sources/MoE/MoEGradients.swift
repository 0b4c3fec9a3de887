internal import CKernels
public import MoECore

/// Sums of the gradients of a layer's parameters, in fp32 whatever the layer's precision.
///
/// A backward pass adds to them, one row after another in the order of the tokens, so a batch in parts gives
/// the bits of the whole batch.
public final class MoEGradients {
  package let configuration: MoEConfiguration
  package let router: RouterGradients
  package let experts: NetworkGradients
  package let branch: NetworkGradients?
  package let branchGate: RouterGradients?

  /// Zeros for the parameters of `layer`.
  ///
  /// - Throws: `MoEError.outOfMemory`.
  public init(for layer: MoELayer) throws(MoEError) {
    configuration = layer.configuration
    router = try RouterGradients(layer.router)
    experts = try NetworkGradients(layer.experts)
    branch = if let network = layer.branch { try NetworkGradients(network) } else { nil }
    branchGate = if let gate = layer.branchGate { try RouterGradients(gate) } else { nil }
  }

  /// Sets every sum to zero.
  public func reset() {
    router.reset()
    experts.reset()
    branch?.reset()
    branchGate?.reset()
  }

  /// The sums in the shapes of the parameters; biases where the layer has them.
  public func weights(of layer: MoELayer) -> MoEWeights {
    let gate = branchGate?.weights(layer.branchGate!)
    return MoEWeights(
      router: router.weights(layer.router),
      experts: (0..<layer.experts.expertCount).map { experts.network($0, layer.experts) },
      dense: branch?.network(0, layer.branch!),
      denseGate: gate.map { BranchGateWeights(weight: $0.weight, bias: $0.bias) })
  }
}

/// Gradients of a router or of a branch's gate, in the layout of its panels.
package struct RouterGradients {
  let panelCount: Int
  package let panels: Memory
  package let bias: Memory

  init(_ router: PackedRouter) throws(MoEError) {
    panelCount = Kernels.panels(Kernels.padded(router.expertCount))
    panels = try Memory(
      zeroed: Kernels.panelBytes(.float32, panels: panelCount, depth: router.hiddenSize))
    bias = try Memory(zeroed: panelCount * MOE_PANEL * MemoryLayout<Float>.stride)
  }

  func reset() {
    panels.zero()
    bias.zero()
  }

  func weights(_ router: PackedRouter) -> RouterWeights {
    RouterWeights(
      weight: panels.matrix(PanelPlace(), rows: router.expertCount, columns: router.hiddenSize),
      bias: router.bias == nil ? nil : bias.floats(at: 0, count: router.expertCount))
  }
}

/// Gradients of a set of networks, in the layout of their panels.
package struct NetworkGradients {
  package let expertCount: Int
  package let up: Memory
  package let down: Memory
  package let upBias: Memory
  package let downBias: Memory
  /// Panels of the second product's gradient: whole pairs, as row tiles are.
  let downPanelCount: Int

  init(_ experts: PackedExperts) throws(MoEError) {
    let count = experts.expertCount
    expertCount = count
    downPanelCount = Kernels.panels(Kernels.padded(experts.hiddenSize))
    up = try Memory(
      zeroed: count
        * Kernels.panelBytes(.float32, panels: experts.upPanelCount, depth: experts.hiddenSize))
    down = try Memory(
      zeroed: count * Kernels.panelBytes(.float32, panels: downPanelCount, depth: experts.feedForwardSize))
    upBias = try Memory(zeroed: count * experts.upPanelCount * MOE_PANEL * MemoryLayout<Float>.stride)
    downBias = try Memory(zeroed: count * downPanelCount * MOE_PANEL * MemoryLayout<Float>.stride)
  }

  /// All sums.
  package var memories: [Memory] { [up, down, upBias, downBias] }
  /// Their number.
  package static let memoryCount = 4

  /// The sums of one network: where in which memory they are.
  package func parts(of index: Int) -> [(memory: Memory, bytes: Range<Int>)] {
    memories.map { memory in
      let size = memory.byteCount / expertCount
      return (memory, index * size..<(index + 1) * size)
    }
  }

  func reset() {
    for memory in memories { memory.zero() }
  }

  func network(_ index: Int, _ experts: PackedExperts) -> FeedForwardWeights {
    let (hidden, inner) = (experts.hiddenSize, experts.feedForwardSize)
    let parts = experts.activation.isGated ? 2 : 1
    let first = index * experts.upPanelCount
    func bias(_ part: Int) -> [Float] {
      (0..<inner).map { f in
        upBias.floats(at: (first + f / MOE_PANEL * parts + part) * MOE_PANEL + f % MOE_PANEL, count: 1)[0]
      }
    }
    return FeedForwardWeights(
      gate: parts == 2
        ? up.matrix(PanelPlace(firstPanel: first, step: 2), rows: inner, columns: hidden) : nil,
      up: up.matrix(
        PanelPlace(firstPanel: first + parts - 1, step: parts), rows: inner, columns: hidden),
      down: down.matrix(PanelPlace(firstPanel: index * downPanelCount), rows: hidden, columns: inner),
      gateBias: experts.gateBias == nil ? nil : bias(0),
      upBias: experts.upBias == nil ? nil : bias(parts - 1),
      downBias: experts.downBias == nil
        ? nil : downBias.floats(at: index * downPanelCount * MOE_PANEL, count: hidden))
  }
}
