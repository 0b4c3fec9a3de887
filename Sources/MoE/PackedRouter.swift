internal import CKernels
public import MoECore

/// A router's parameters as the kernel reads them: fp32 panels and biases.
public struct PackedRouter: Sendable {
  /// D.
  public let hiddenSize: Int
  /// E.
  public let expertCount: Int
  /// K.
  public let expertsPerToken: Int
  let policy: RoutingPolicy
  let panels: Memory
  let bias: Memory?
  let selectionBias: Memory?

  /// Packs `weights` for a policy.
  ///
  /// - Throws: `MoEError.shapeMismatch` for a parameter whose shape is not `[E, D]` or `[E]`, and
  ///   `MoEError.invalidConfiguration` for a weight or bias that is NaN or infinite.
  public init(
    _ weights: RouterWeights, hiddenSize: Int, expertCount: Int, expertsPerToken: Int, policy: RoutingPolicy,
    execution: Execution
  ) throws(MoEError) {
    try policy.validate(expertCount: expertCount, expertsPerToken: expertsPerToken)
    try check(weights.weight.shape, [expertCount, hiddenSize], "the router weight")
    try check([weights.bias?.count ?? expertCount], [expertCount], "the router bias")
    try check([weights.selectionBias?.count ?? expertCount], [expertCount], "the selection bias")
    if case .sparseMixer = policy.scoring, weights.selectionBias != nil {
      throw .invalidConfiguration("SparseMixer compares logits and takes no selection bias")
    }
    for (name, bias) in [("router", weights.bias), ("selection", weights.selectionBias)] {
      if let index = bias?.firstIndex(where: { !$0.isFinite }) {
        throw .invalidConfiguration(
          "the \(name) bias of expert \(index) is \(bias![index]), expected a finite number")
      }
    }
    self.hiddenSize = hiddenSize
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
    self.policy = policy
    let count = Kernels.panels(expertCount)
    panels = try Memory(byteCount: Kernels.panelBytes(.float32, panels: count, depth: hiddenSize))
    if !Kernels.pack(
      weights.weight, precision: .float32, into: panels, first: 0, stride: 1, execution: execution)
    {
      try weights.weight.requireFinite("the router weight", storedAs: .float32)
    }
    bias = if let bias = weights.bias { try Memory(bias, paddedTo: expertCount) } else { nil }
    selectionBias =
      if let bias = weights.selectionBias { try Memory(bias, paddedTo: expertCount) } else { nil }
  }

  /// Returns a router with the same parameters under another policy, which was checked for these sizes.
  func with(_ policy: RoutingPolicy) -> PackedRouter { PackedRouter(copying: self, policy: policy) }

  private init(copying other: PackedRouter, policy: RoutingPolicy) {
    hiddenSize = other.hiddenSize
    expertCount = other.expertCount
    expertsPerToken = other.expertsPerToken
    panels = other.panels
    bias = other.bias
    selectionBias = other.selectionBias
    self.policy = policy
  }
}
