internal import CKernels
package import MoECore

extension MoELayer {
  /// Returns the parameters of a layer that is trained, in the memory that it computes from. Changing their values
  /// changes the layer, so the layer must have one owner during training.
  ///
  /// A bias is a parameter of its own that does not decay.
  ///
  /// - Parameters:
  ///   - prefix: the prefix of every name, followed by a dot; empty for none.
  ///   - gradients: the sums that ``backward(_:input:recording:losses:into:gradients:execution:)`` adds to.
  ///   - experts: the numbers of the layer's experts within a larger layer, if it holds only some of them; nil for all
  ///     in order.
  /// - Throws: `MoEError.unsupported` for sizes that are not multiples of 32: weights and gradients would be padded
  ///   differently.
  package func parameters(
    prefix: String, gradients: MoEGradients, experts ids: [Int]? = nil
  ) throws(MoEError) -> [Parameter] {
    for (name, size) in [
      ("hidden size", configuration.hiddenSize), ("feed-forward size", configuration.feedForwardSize),
      ("dense branch's feed-forward size", configuration.denseBranch?.feedForwardSize ?? 32),
    ] where size % MOE_K_MULTIPLE != 0 {
      throw .unsupported("a trained layer's \(name) is a multiple of \(MOE_K_MULTIPLE), not \(size)")
    }
    func name(_ part: String) -> String { prefix.isEmpty ? part : "\(prefix).\(part)" }
    let ids = ids ?? Array(0..<experts.expertCount)
    var parameters = Self.parameters(name("router"), router, gradients.router)
    parameters += Self.parameters(
      experts, gradients.experts, group: .expert, name: { name("experts.\(ids[$0])") },
      owner: name("experts"), experts: ids)
    if let branch, let sums = gradients.branch {
      parameters += Self.parameters(
        branch, sums, group: .other, name: { _ in name("dense") }, owner: name("dense"))
    }
    if let branchGate, let sums = gradients.branchGate {
      parameters += Self.parameters(name("dense_gate"), branchGate, sums)
    }
    return parameters
  }

  /// A copy of the parameters in their shapes, with the experts that the layer holds.
  ///
  /// - Precondition: the layer is in fp32.
  package var weights: MoEWeights {
    precondition(experts.precision == .float32, "weights are read from fp32 alone")
    return MoEWeights(
      router: RouterWeights(
        weight: router.weight, bias: router.biasValues,
        selectionBias: selectionBias),
      experts: (0..<experts.expertCount).map(experts.network), dense: branch?.network(0),
      denseGate: branchGate.map { BranchGateWeights(weight: $0.weight, bias: $0.biasValues) })
  }

  /// Returns a layer of the same parameters, in the same memory, under another configuration, for example with other
  /// capacities for evaluation.
  ///
  /// - Precondition: both configurations have the same sizes.
  package func with(_ configuration: MoEConfiguration) -> MoELayer {
    precondition(
      configuration.hiddenSize == self.configuration.hiddenSize
        && configuration.feedForwardSize == self.configuration.feedForwardSize
        && configuration.expertCount == self.configuration.expertCount
        && configuration.expertsPerToken == self.configuration.expertsPerToken
        && configuration.denseBranch == self.configuration.denseBranch,
      "the configurations have different sizes")
    return MoELayer(
      configuration, router: router.with(configuration.routing), experts: experts, branch: branch,
      branchGate: branchGate)
  }

  /// The bias of the router's selection, which may change between passes; nil if the layer has none.
  package var selectionBias: [Float]? {
    get { router.selectionBias?.floats(at: 0, count: configuration.expertCount) }
    nonmutating set {
      guard let memory = router.selectionBias, let values = newValue else { return }
      precondition(values.count == configuration.expertCount, "a bias is needed for each expert")
      for (index, value) in values.enumerated() { unsafe memory.floats[index] = value }
    }
  }

  /// Returns the parameters of a router or of a branch's gate: its weight and its bias, if any.
  private static func parameters(
    _ name: String, _ router: PackedRouter, _ gradients: RouterGradients
  ) -> [Parameter] {
    let weight = Parameter(
      name: name, group: .other, decays: true,
      tensors: [
        Parameter.Tensor(
          name: name, rows: router.expertCount, columns: router.hiddenSize, layout: .panels(PanelPlace()))
      ],
      count: router.panels.byteCount / MemoryLayout<Float>.stride, values: router.panels,
      gradient: gradients.panels)
    guard let values = router.bias else { return [weight] }
    return [
      weight,
      Parameter(
        name: "\(name)_bias", group: .other, decays: false,
        tensors: [Parameter.Tensor(name: "\(name)_bias", rows: 1, columns: router.expertCount)],
        count: router.expertCount, values: values, gradient: gradients.bias),
    ]
  }

  /// Returns the parameters of a set of networks: one for each product's weights, and one for each kind of bias.
  private static func parameters(
    _ networks: PackedExperts, _ gradients: NetworkGradients, group: Parameter.Group, name: (Int) -> String,
    owner: String, experts: [Int] = []
  ) -> [Parameter] {
    let (hidden, inner) = (networks.hiddenSize, networks.feedForwardSize)
    let parts = networks.activation.isGated ? ["gate", "up"] : ["up"]
    var up: [Parameter.Tensor] = []
    var down: [Parameter.Tensor] = []
    for index in 0..<networks.expertCount {
      for (part, kind) in parts.enumerated() {
        let place = PanelPlace(firstPanel: index * networks.upPanelCount + part, step: parts.count)
        up.append(
          .init(name: "\(name(index)).\(kind)", rows: inner, columns: hidden, layout: .panels(place)))
      }
      let place = PanelPlace(firstPanel: index * networks.downPanelCount)
      down.append(.init(name: "\(name(index)).down", rows: hidden, columns: inner, layout: .panels(place)))
    }
    func weights(
      _ kind: String, _ tensors: [Parameter.Tensor], _ values: Memory, _ gradient: Memory
    ) -> Parameter {
      Parameter(
        name: "\(owner).\(kind)", group: group, decays: true, tensors: tensors,
        count: values.byteCount / MemoryLayout<Float>.stride, experts: experts, values: values,
        gradient: gradient)
    }
    func bias(_ kind: String, width: Int, _ values: Memory?, _ gradient: Memory?) -> Parameter? {
      guard let values, let gradient else { return nil }
      return Parameter(
        name: "\(owner).\(kind)", group: group, decays: false,
        tensors: (0..<networks.expertCount).map {
          .init(name: "\(name($0)).\(kind)", rows: 1, columns: width, layout: .rows(offset: $0 * width))
        },
        count: networks.expertCount * width, experts: experts, values: values, gradient: gradient)
    }
    let biases = [
      bias("gate_bias", width: inner, networks.gateBias, gradients.gateBias),
      bias("up_bias", width: inner, networks.upBias, gradients.upBias),
      bias("down_bias", width: hidden, networks.downBias, gradients.downBias),
    ]
    let products = [
      weights("up", up, networks.up, gradients.up),
      weights("down", down, networks.down, gradients.down),
    ]
    return products + biases.compactMap(\.self)
  }
}

extension PackedRouter {
  /// A copy of the weight, `[E, D]`.
  fileprivate var weight: Matrix { panels.matrix(PanelPlace(), rows: expertCount, columns: hiddenSize) }
  /// A copy of the bias, `[E]`; nil if there is none.
  fileprivate var biasValues: [Float]? { bias?.floats(at: 0, count: expertCount) }
}

extension PackedExperts {
  /// Returns a copy of one of the networks from fp32 panels.
  fileprivate func network(_ index: Int) -> FeedForwardWeights {
    network(
      index, up: up, down: down, downPanelCount: downPanelCount, gateBias: gateBias, upBias: upBias,
      downBias: downBias)
  }
}
