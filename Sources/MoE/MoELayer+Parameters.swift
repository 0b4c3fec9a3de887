internal import CKernels
package import MoECore

extension MoELayer {
  /// The parameters of a layer that is trained, in the memory it computes from: changing their values changes the
  /// layer, which therefore belongs to one owner meanwhile.
  ///
  /// - Parameters:
  ///   - prefix: goes before every name.
  ///   - gradients: the sums that ``backward(_:input:recording:losses:into:gradients:execution:)`` adds to.
  ///   - experts: what the layer's experts are called, where it holds some of a larger layer's; nil for all in order.
  /// - Throws: `MoEError.unsupported` for sizes that are not multiples of 32, where weights and gradients are padded
  ///   differently, and for biases.
  package func parameters(
    prefix: String, gradients: MoEGradients, experts ids: [Int]? = nil
  ) throws(MoEError) -> [Parameter] {
    for (name, size) in [
      ("hidden size", configuration.hiddenSize), ("feed-forward size", configuration.feedForwardSize),
      ("dense branch's feed-forward size", configuration.denseBranch?.feedForwardSize ?? 32),
    ] where size % MOE_K_MULTIPLE != 0 {
      throw .unsupported("a trained layer's \(name) is a multiple of \(MOE_K_MULTIPLE), not \(size)")
    }
    let networks = [experts, branch].compactMap(\.self)
    let biases =
      networks.flatMap { [$0.gateBias, $0.upBias, $0.downBias] } + [router.bias, branchGate?.bias]
    if biases.contains(where: { $0 != nil }) {
      throw .unsupported("a trained layer has no biases")
    }
    var parameters = [
      Self.parameter("\(prefix).router", router, gradients.router)
    ]
    let ids = ids ?? Array(0..<experts.expertCount)
    parameters += Self.parameters(
      experts, gradients.experts, group: .expert, name: { "\(prefix).experts.\(ids[$0])" },
      owner: "\(prefix).experts", experts: ids)
    if let branch, let sums = gradients.branch {
      parameters += Self.parameters(
        branch, sums, group: .other, name: { _ in "\(prefix).dense" }, owner: "\(prefix).dense")
    }
    if let branchGate, let sums = gradients.branchGate {
      parameters.append(Self.parameter("\(prefix).dense_gate", branchGate, sums))
    }
    return parameters
  }

  /// The same parameters, in the same memory, under another configuration: other capacities for evaluation.
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

  /// The bias of the router's selection, changed between passes; nil where the layer has none.
  package var selectionBias: [Float]? {
    get { router.selectionBias?.floats(at: 0, count: configuration.expertCount) }
    nonmutating set {
      guard let memory = router.selectionBias, let values = newValue else { return }
      precondition(values.count == configuration.expertCount, "a bias is needed for each expert")
      for (index, value) in values.enumerated() { unsafe memory.floats[index] = value }
    }
  }

  private static func parameter(
    _ name: String, _ router: PackedRouter, _ gradients: RouterGradients
  ) -> Parameter {
    Parameter(
      name: name, group: .other, decays: true,
      tensors: [
        Parameter.Tensor(
          name: name, rows: router.expertCount, columns: router.hiddenSize, place: PanelPlace())
      ],
      count: router.panels.byteCount / MemoryLayout<Float>.stride, values: router.panels,
      gradient: gradients.panels)
  }

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
        up.append(.init(name: "\(name(index)).\(kind)", rows: inner, columns: hidden, place: place))
      }
      let place = PanelPlace(firstPanel: index * networks.downPanelCount)
      down.append(.init(name: "\(name(index)).down", rows: hidden, columns: inner, place: place))
    }
    let stride = MemoryLayout<Float>.stride
    return [
      Parameter(
        name: "\(owner).up", group: group, decays: true, tensors: up, count: networks.up.byteCount / stride,
        experts: experts, values: networks.up, gradient: gradients.up),
      Parameter(
        name: "\(owner).down", group: group, decays: true, tensors: down,
        count: networks.down.byteCount / stride, experts: experts, values: networks.down,
        gradient: gradients.down),
    ]
  }
}
