internal import CKernels
public import MoECore

/// Sums of the gradients of a layer's parameters, in fp32 whatever the layer's precision.
///
/// A backward pass adds to them, one row after another in the order of the tokens, so a batch that is split into parts
/// gives the same bits as the whole batch.
public final class MoEGradients {
  package let configuration: MoEConfiguration
  package let router: RouterGradients
  package let experts: NetworkGradients
  package let branch: NetworkGradients?
  package let branchGate: RouterGradients?

  /// Makes sums of zero for the parameters of `layer`.
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

  /// Returns the sums in the shapes of the parameters, with biases if the layer has them.
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

/// Gradients of a set of networks, in the layout of their panels and biases.
package struct NetworkGradients {
  package let expertCount: Int
  package let up: Memory
  package let down: Memory
  /// `[E, F]`, each expert's part padded as the bias itself is; nil if the networks have no such bias.
  package let gateBias: Memory?
  package let upBias: Memory?
  /// `[E, D]`, each expert's part padded to whole panels; nil if the networks have no such bias.
  package let downBias: Memory?
  /// The number of panels of the second product's gradient. It is even, as for row tiles.
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
    func zeros(like bias: Memory?, panels: Int) throws(MoEError) -> Memory? {
      bias == nil ? nil : try Memory(zeroed: count * panels * MOE_PANEL * MemoryLayout<Float>.stride)
    }
    let upPanels = experts.upPanelCount / (experts.activation.isGated ? 2 : 1)
    gateBias = try zeros(like: experts.gateBias, panels: upPanels)
    upBias = try zeros(like: experts.upBias, panels: upPanels)
    downBias = try zeros(like: experts.downBias, panels: downPanelCount)
  }

  /// All sums.
  package var memories: [Memory] { [up, down] + [gateBias, upBias, downBias].compactMap(\.self) }
  /// The largest possible number of ``memories``. It is the same on all ranks, whichever biases their networks have.
  package static let memoryLimit = 5

  /// Returns the places of one network's sums: each memory and the range of bytes in it.
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
    experts.network(
      index, up: up, down: down, downPanelCount: downPanelCount, gateBias: gateBias, upBias: upBias,
      downBias: downBias)
  }
}

extension PackedExperts {
  /// Returns one network in the shapes of its parameters, from fp32 memory with the layout of these gradients.
  ///
  /// - Parameters:
  ///   - downPanelCount: the number of panels per network in `down`, which may exceed that of the weights.
  ///   - gateBias: the memory of the gates' biases; nil, as the other two, if the networks have no such bias.
  func network(
    _ index: Int, up: Memory, down: Memory, downPanelCount: Int, gateBias: Memory?, upBias: Memory?,
    downBias: Memory?
  ) -> FeedForwardWeights {
    let (hidden, inner) = (hiddenSize, feedForwardSize)
    let parts = activation.isGated ? 2 : 1
    let first = index * upPanelCount
    func bias(_ memory: Memory?, _ count: Int, panels: Int) -> [Float]? {
      memory?.floats(at: index * panels * MOE_PANEL, count: count)
    }
    return FeedForwardWeights(
      gate: parts == 2
        ? up.matrix(PanelPlace(firstPanel: first, step: 2), rows: inner, columns: hidden) : nil,
      up: up.matrix(
        PanelPlace(firstPanel: first + parts - 1, step: parts), rows: inner, columns: hidden),
      down: down.matrix(PanelPlace(firstPanel: index * downPanelCount), rows: hidden, columns: inner),
      gateBias: bias(gateBias, inner, panels: upPanelCount / parts),
      upBias: bias(upBias, inner, panels: upPanelCount / parts),
      downBias: bias(downBias, hidden, panels: downPanelCount))
  }
}
