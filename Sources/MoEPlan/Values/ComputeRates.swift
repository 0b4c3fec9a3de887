/// How fast a host computes with all its cores.
public struct ComputeRates: Sendable, Equatable, Codable {
  /// Floating-point operations per second of large products, where a multiply-add counts as two.
  public var flops: Double
  /// Bytes per second that all cores together read and write in memory.
  public var memoryBandwidth: Double
  /// Measured rates of whole layers. If it is empty, times follow the roofline of the two numbers above.
  package var curve: [CurvePoint]
  /// Seconds of one thread of a rank for each choice of its tokens: to find its row, and to write its metadata.
  public var choiceSeconds: Double
  /// Seconds that a pass over a layer takes in addition, whatever its size.
  public var passSeconds: Double

  /// Describes a machine by its two limits; ``Calibration`` measures more.
  public init(
    flops: Double, memoryBandwidth: Double = 20e9, choiceSeconds: Double = 5e-8, passSeconds: Double = 5e-5
  ) {
    self.flops = flops
    self.memoryBandwidth = memoryBandwidth
    curve = []
    self.choiceSeconds = choiceSeconds
    self.passSeconds = passSeconds
  }

  func validate() throws(PlanError) {
    for (name, value) in [("operations per second", flops), ("bytes per second of memory", memoryBandwidth)] {
      try require((1...1e21).contains(value), "a host has \(value) \(name), expected 1 to 10^21")
    }
    for (name, value) in [("a choice", choiceSeconds), ("a pass", passSeconds)] {
      try require((0...1e3).contains(value), "\(name) takes \(value) s, expected 0 to 1000")
    }
    for point in curve { try point.validate() }
  }
}

/// The measured rate of a layer's products if each expert has ``rows`` rows.
package struct CurvePoint: Sendable, Equatable, Codable {
  /// D.
  package var hiddenSize: Int
  /// F.
  package var feedForwardSize: Int
  /// The rows of each expert.
  package var rows: Int
  /// Floating-point operations per second of the forward pass's products, on all cores.
  package var forward: Double
  /// Floating-point operations per second of the backward pass's products, which are twice as many.
  package var backward: Double

  package init(hiddenSize: Int, feedForwardSize: Int, rows: Int, forward: Double, backward: Double) {
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
