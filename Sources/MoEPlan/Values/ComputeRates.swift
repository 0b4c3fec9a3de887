/// What a host computes with all its cores.
public struct ComputeRates: Sendable, Equatable, Codable {
  /// Floating-point operations a second of large products, a multiply-add being two.
  public var flops: Double
  /// Bytes a second that all cores read and write in memory together.
  public var memoryBandwidth: Double
  /// Measured rates of whole layers; without any, the roofline of the two numbers above.
  public var curve: [CurvePoint]
  /// Seconds of a rank's one thread for each choice of its tokens: its place among all rows, its announcement.
  public var choiceSeconds: Double
  /// Seconds that a pass over a layer takes besides, whatever its size.
  public var passSeconds: Double

  /// A machine of which no more is known than its two limits.
  public init(
    flops: Double, memoryBandwidth: Double = 20e9, curve: [CurvePoint] = [], choiceSeconds: Double = 5e-8,
    passSeconds: Double = 5e-5
  ) {
    self.flops = flops
    self.memoryBandwidth = memoryBandwidth
    self.curve = curve
    self.choiceSeconds = choiceSeconds
    self.passSeconds = passSeconds
  }

  func validate() throws(PlanError) {
    for (name, value) in [("operations a second", flops), ("bytes a second of memory", memoryBandwidth)] {
      try require((1...1e21).contains(value), "a host has \(value) \(name), expected 1 to 10^21")
    }
    for (name, value) in [("a choice", choiceSeconds), ("a pass", passSeconds)] {
      try require((0...1e3).contains(value), "\(name) takes \(value) s, expected 0 to 1000")
    }
    for point in curve { try point.validate() }
  }
}

/// The measured rate of a layer's products where each expert has so many rows.
public struct CurvePoint: Sendable, Equatable, Codable {
  /// D.
  public var hiddenSize: Int
  /// F.
  public var feedForwardSize: Int
  /// Rows of each expert.
  public var rows: Int
  /// Floating-point operations a second of the forward pass's products, on all cores.
  public var forward: Double
  /// The same of the backward pass, which has twice as many.
  public var backward: Double

  /// Makes a point.
  public init(hiddenSize: Int, feedForwardSize: Int, rows: Int, forward: Double, backward: Double) {
    self.hiddenSize = hiddenSize
    self.feedForwardSize = feedForwardSize
    self.rows = rows
    self.forward = forward
    self.backward = backward
  }

  func validate() throws(PlanError) {
    try require(
      hiddenSize > 0 && feedForwardSize > 0 && rows > 0,
      "a point of the curve has \(rows) rows of \(hiddenSize) × \(feedForwardSize), expected at least 1 of each"
    )
    try require(
      (1...1e21).contains(forward) && (1...1e21).contains(backward),
      "a point of the curve has rates of \(forward) and \(backward), expected 1 to 10^21")
  }
}
