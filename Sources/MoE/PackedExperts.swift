internal import CKernels
public import MoECore

/// The feed-forward networks of a layer, packed into the panels that the grouped GEMM reads.
///
/// Copies share the panels. They stay unchanged after packing, unless this package trains the layer. Then its optimizer
/// changes them between passes, in the one task that owns the layer.
///
/// The layout is the same for every instruction set: `[expert][panel of 16 columns][k][16]`, where the panels
/// of gate and up projections alternate.
public struct PackedExperts: Sendable {
  /// D.
  public let hiddenSize: Int
  /// F.
  public let feedForwardSize: Int
  /// E.
  public let expertCount: Int
  /// The activation function between the two products.
  public let activation: ActivationFunction
  /// The format in which the weights are stored.
  public let precision: Precision
  let up: Memory
  let down: Memory
  let gateBias: Memory?
  let upBias: Memory?
  let downBias: Memory?

  /// The number of panels of one expert's first product: those of up, or of gate and up in turn.
  var upPanelCount: Int { Kernels.panels(Kernels.padded(feedForwardSize)) * (activation.isGated ? 2 : 1) }
  /// The number of panels of one expert's second product.
  var downPanelCount: Int { Kernels.panels(hiddenSize) }
  /// The weights of the first product.
  var upPanels: Panels {
    Panels(memory: up, depth: hiddenSize, precision: precision)
  }

  /// The size of the weights in bytes.
  public var byteCount: Int { up.byteCount + down.byteCount }

  /// Packs `expertCount` networks, which it requests one at a time.
  ///
  /// - Throws: what `expert` throws, `MoEError.shapeMismatch` for a parameter of
  ///   another shape, `MoEError.invalidConfiguration` where only some experts have a bias.
  public init(
    hiddenSize: Int, feedForwardSize: Int, expertCount: Int, activation: ActivationFunction,
    precision: Precision, execution: Execution, owner: String = "expert",
    expert: (Int) throws -> FeedForwardWeights
  ) throws {
    try self.init(
      hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, expertCount: expertCount,
      activation: activation, precision: precision, execution: execution, expert: expert,
      name: { expertCount == 1 ? owner : "\(owner) \($0)" })
  }

  /// Packs networks that have a name each, for errors.
  init(
    hiddenSize: Int, feedForwardSize: Int, expertCount: Int, activation: ActivationFunction,
    precision: Precision, execution: Execution, expert: (Int) throws -> FeedForwardWeights,
    name: (Int) -> String
  ) throws {
    self.hiddenSize = hiddenSize
    self.feedForwardSize = feedForwardSize
    self.expertCount = expertCount
    self.activation = activation
    self.precision = precision
    let width = Kernels.padded(feedForwardSize)
    let upPanels = Kernels.panels(width) * (activation.isGated ? 2 : 1)
    let downPanels = Kernels.panels(hiddenSize)
    let downWidth = downPanels * MOE_PANEL
    up = try Memory(
      byteCount: expertCount * Kernels.panelBytes(precision, panels: upPanels, depth: hiddenSize))
    down = try Memory(
      byteCount: expertCount * Kernels.panelBytes(precision, panels: downPanels, depth: feedForwardSize))
    var gateBiases = BiasTable(name: "gate", width: width)
    var upBiases = BiasTable(name: "up", width: width)
    var downBiases = BiasTable(name: "down", width: downWidth)
    for index in 0..<expertCount {
      let weights = try expert(index)
      try weights.validate(
        hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, isGated: activation.isGated,
        owner: name(index))
      let isUpFinite = Kernels.packUp(
        weights, expert: index, panels: upPanels, precision: precision, into: up, execution)
      let isDownFinite = Kernels.pack(
        weights.down, precision: precision, into: down, first: index * downPanels, stride: 1,
        execution: execution)
      try weights.requireFinite(
        matrices: isUpFinite && isDownFinite, storedAs: precision, owner: name(index))
      try gateBiases.append(weights.gateBias, of: name(index))
      try upBiases.append(weights.upBias, of: name(index))
      try downBiases.append(weights.downBias, of: name(index))
    }
    gateBias = try gateBiases.memory()
    upBias = try upBiases.memory()
    downBias = try downBiases.memory()
  }
}

extension Kernels {
  /// Packs the first product of one expert; the tail up to a whole pair of panels is zero.
  ///
  /// - Returns: whether all packed values are finite.
  fileprivate static func packUp(
    _ weights: FeedForwardWeights, expert: Int, panels: Int, precision: Precision, into memory: Memory,
    _ execution: Execution
  ) -> Bool {
    let bytes = panelBytes(precision, panels: panels, depth: weights.up.columns)
    unsafe (memory.base + expert * bytes).initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
    let parts = weights.gate.map { [$0, weights.up] } ?? [weights.up]
    var isFinite = true
    for (part, matrix) in parts.enumerated() {
      let isPartFinite = pack(
        matrix, precision: precision, into: memory, first: expert * panels + part, stride: parts.count,
        execution: execution)
      isFinite = isFinite && isPartFinite
    }
    return isFinite
  }
}

/// One kind of bias of all experts. Either all experts have it, or none.
private struct BiasTable {
  let name: String
  let width: Int
  private var values: [Float] = []
  private var experts = 0
  private var biased = 0

  init(name: String, width: Int) {
    self.name = name
    self.width = width
  }

  mutating func append(_ bias: [Float]?, of owner: String) throws(MoEError) {
    experts += 1
    if let bias {
      biased += 1
      values += bias
      values += Array(repeating: 0, count: width - bias.count)
    }
    guard biased == 0 || biased == experts else {
      throw .invalidConfiguration(
        "\(owner) \(bias == nil ? "lacks" : "has") a \(name) bias, unlike those before it")
    }
  }

  func memory() throws(MoEError) -> Memory? {
    biased == 0 ? nil : try Memory(values, paddedTo: values.count)
  }
}
