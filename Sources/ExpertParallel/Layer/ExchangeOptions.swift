/// Options for the exchange of tokens and rows between ranks. They change the time of a pass; ``Payload/bfloat16`` and
/// ``ReturnedRows/partialSums`` also change the rounding.
public struct ExchangeOptions: Sendable, Equatable {
  /// The number of slices in which rows travel and are computed.
  public var overlap = OverlapDegree.automatic
  /// The number format in which rows are sent.
  public var payload = Payload.float32
  /// The rows that come back for a token.
  public var returned = ReturnedRows.perChoice
  /// The route of rows between hosts.
  public var route = ExchangeRoute.automatic

  /// Makes options. The defaults are slices by measurement, fp32, one row per choice, and a hierarchical route if ranks
  /// share hosts.
  public init(
    overlap: OverlapDegree = .automatic, payload: Payload = .float32, returned: ReturnedRows = .perChoice,
    route: ExchangeRoute = .automatic
  ) {
    self.overlap = overlap
    self.payload = payload
    self.returned = returned
    self.route = route
  }
}

/// The number of slices in which a rank's rows travel: one slice is computed while others travel (Hwang et al. 2023,
/// *Tutel*, §3.3). Results have the same bits for every number.
public enum OverlapDegree: Sendable, Equatable, CustomStringConvertible {
  /// A given number of slices, 1 to ``limit``.
  case slices(Int)
  /// The number that is fastest by the measured times of exchange and computation; 1 if the processors that compute
  /// also copy the data, as between threads.
  case automatic

  /// The largest number of slices: more slices would be so short that they cost more than they hide.
  public static let limit = 32

  /// The number of slices, or "auto".
  public var description: String {
    switch self {
    case .automatic: "auto"
    case .slices(let count): "\(count)"
    }
  }
}

/// The rows that a rank sends back for the choices of a token.
public enum ReturnedRows: Sendable, Equatable {
  /// One row per choice, which the token's rank adds up in slot order: the bits of one rank.
  case perChoice
  /// One row per token: the sum of the rows of its choices on the rank, times their weights, in the order of the
  /// experts.
  ///
  /// Fewer rows travel if tokens have several experts on a rank, but sums are rounded differently: two orders of K
  /// terms differ by at most 2·γ(K)·Σ|terms|, γ(n) = n·u/(1 − n·u), u = 2⁻²⁴. Not available for experts whose input is
  /// multiplied by the weight, or beside a dense branch whose gate multiplies the experts too.
  case partialSums
}

/// The route of rows between ranks. Results have the same bits for each route.
public enum ExchangeRoute: Sendable, Equatable {
  /// Hierarchical if there are several hosts and some host has several ranks, direct otherwise.
  case automatic
  /// One message from each rank to each rank.
  case direct
  /// Rows are gathered within a host, sent in one message to each other host, and there sent to each rank (Rajbhandari
  /// et al. 2022, *DeepSpeed-MoE*, §5.2).
  case hierarchical
}

/// The number format in which tokens and rows are sent.
public enum Payload: Sendable, Equatable {
  /// fp32: nothing is rounded.
  case float32
  /// bfloat16, half the bytes: each number is rounded by at most 2⁻⁸ of itself on the way out and again on the way
  /// back. Experts in bfloat16 round their input in any case, so for them the dispatch adds no error.
  case bfloat16

  var bytesPerElement: Int { self == .float32 ? 4 : 2 }
}
