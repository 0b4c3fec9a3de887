package import MoECore

extension MoELayer {
  /// Returns a copy of the layer with its networks rounded to bfloat16. The copy computes; this layer keeps the fp32
  /// master weights.
  ///
  /// Both layers share router, gate and biases, in fp32.
  ///
  /// - Throws: `MoEError.outOfMemory`.
  package func narrowed(execution: Execution) throws(MoEError) -> MoELayer {
    let copy = MoELayer(
      configuration, router: router, experts: try PackedExperts(narrowing: experts),
      branch: branch == nil ? nil : try PackedExperts(narrowing: branch!), branchGate: branchGate)
    narrow(into: copy, execution: execution)
    return copy
  }

  /// Rounds the networks into `copy` again, after they changed.
  ///
  /// - Parameter copy: the layer that ``narrowed(execution:)`` returned.
  package func narrow(into copy: MoELayer, execution: Execution) {
    experts.narrow(into: copy.experts, execution: execution)
    if let branch, let other = copy.branch { branch.narrow(into: other, execution: execution) }
  }
}

extension PackedExperts {
  /// Reserves memory for a bfloat16 copy.
  fileprivate init(narrowing master: PackedExperts) throws(MoEError) {
    precondition(master.precision == .float32, "only fp32 weights are narrowed")
    hiddenSize = master.hiddenSize
    feedForwardSize = master.feedForwardSize
    expertCount = master.expertCount
    activation = master.activation
    precision = .bfloat16
    up = try Memory(byteCount: master.up.byteCount / 2)
    down = try Memory(byteCount: master.down.byteCount / 2)
    gateBias = master.gateBias
    upBias = master.upBias
    downBias = master.downBias
  }

  fileprivate func narrow(into copy: PackedExperts, execution: Execution) {
    Kernels.narrow(
      up, to: copy.up, panels: expertCount * upPanelCount, depth: hiddenSize, execution: execution)
    Kernels.narrow(
      down, to: copy.down, panels: expertCount * downPanelCount, depth: feedForwardSize, execution: execution)
  }
}
