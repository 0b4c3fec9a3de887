/// A way between ranks in the α–β model: n messages of together b bytes take n·α + b/β (Hockney 1994, *The communication
/// challenge for MPP*).
public struct Link: Sendable, Equatable, Codable, CustomStringConvertible {
  /// α: seconds for each message of a rank.
  public var latency: Double
  /// β: bytes a second of a host, in each direction at once, shared by its ranks.
  public var bandwidth: Double

  /// Makes a link.
  public init(latency: Double, bandwidth: Double) {
    self.latency = latency
    self.bandwidth = bandwidth
  }

  /// Reads `1gbit:50us`: bandwidth, a colon and latency.
  ///
  /// - Throws: ``PlanError`` naming the text.
  public init(_ text: String, name: String) throws(PlanError) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let bandwidth = Quantity.bandwidth(String(parts[0])),
      let latency = Quantity.seconds(String(parts[1]))
    else {
      throw PlanError(
        "\(name) is “\(text)”, expected a bandwidth and a latency such as 1gbit:50us or 10GB/s:2us")
    }
    self.init(latency: latency, bandwidth: bandwidth)
    try validate(name)
  }

  /// `α 30.0 µs, β 1.16 GiB/s`.
  public var description: String { "α \(Format.seconds(latency)), β \(Format.bytes(bandwidth))/s" }

  func validate(_ name: String) throws(PlanError) {
    try require(
      latency >= 0 && latency <= 1e3,
      "\(name) has a latency of \(latency) s, expected 0 to 1000")
    try require(
      (1...1e18).contains(bandwidth),
      "\(name) has a bandwidth of \(bandwidth) bytes/s, expected 1 to 10^18")
  }
}
