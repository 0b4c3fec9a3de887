import MoEReport

/// A link between ranks in the α–β model: n messages with b bytes in all take n·α + b/β seconds (Hockney 1994, *The
/// communication challenge for MPP*).
public struct Link: Sendable, Equatable, Codable, CustomStringConvertible {
  /// α: seconds per message of a rank.
  public var latency: Double
  /// β: bytes per second of a host, in each direction at once, shared by its ranks.
  public var bandwidth: Double

  /// Makes a link from α in seconds and β in bytes per second.
  public init(latency: Double, bandwidth: Double) {
    self.latency = latency
    self.bandwidth = bandwidth
  }

  /// Reads a bandwidth, a colon and a latency, such as `1gbit:50us`.
  ///
  /// - Parameters:
  ///   - text: the text to read.
  ///   - name: the name of the link in errors.
  /// - Throws: ``PlanError`` that quotes the text.
  package init(_ text: String, name: String) throws(PlanError) {
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
  public var description: String { "α \(formatted(seconds: latency)), β \(formatted(bytes: bandwidth))/s" }

  func validate(_ name: String) throws(PlanError) {
    try require(
      latency >= 0 && latency <= 1e3,
      "\(name) has a latency of \(latency) s, expected 0 to 1000")
    try require(
      (1...1e18).contains(bandwidth),
      "\(name) has a bandwidth of \(bandwidth) bytes/s, expected 1 to 10^18")
  }
}
