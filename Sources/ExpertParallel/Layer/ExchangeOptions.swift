/// How tokens and rows travel between ranks; it changes the time a pass takes, and where it says so the rounding.
public struct ExchangeOptions: Sendable, Equatable {
  /// The slices in which rows travel and are computed.
  public var overlap = OverlapDegree.automatic
  /// What a number is sent as.
  public var payload = Payload.float32
  /// What comes back for a token.
  public var returned = ReturnedRows.perChoice
  /// The way between hosts.
  public var route = ExchangeRoute.automatic

  /// Slices by measurement, numbers in fp32, a row a choice, by way of hosts where ranks share them, unless set.
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

/// In how many slices a rank's rows travel, each computed while others are on their way (Hwang et al. 2023, *Tutel*,
/// §3.3). Results have the same bits for every number.
public enum OverlapDegree: Sendable, Equatable {
  /// So many.
  case slices(Int)
  /// As many as the measured times of exchange and computation make fastest; 1 where an exchange is itself work of the
  /// processors that compute, as between threads.
  case automatic

  /// The most slices that are of use: more are so short that they cost more than they hide.
  public static let limit = 32
}

/// What a rank sends back for the choices that a token has there.
public enum ReturnedRows: Sendable, Equatable {
  /// One row a choice, which the token's rank adds up in slot order: the bits of one rank.
  case perChoice
  /// One row a token, the sum of its choices' rows times their weights, added up in the order of the experts there: fewer
  /// rows where tokens have several experts on a rank, and other roundings. Two orders of K terms differ by at most
  /// 2·γ(K)·Σ|terms|, γ(n) = n·u/(1 − n·u), u = 2⁻²⁴. Not for experts whose input is multiplied by the weight, nor beside a
  /// dense branch whose gate multiplies the experts too.
  case partialSums
}

/// Which way rows take between ranks. Results have the same bits for each.
public enum ExchangeRoute: Sendable, Equatable {
  /// Hierarchical where ranks share hosts and there are several of these, direct elsewhere.
  case automatic
  /// From each rank to each.
  case direct
  /// Gathered within a host, in one message to each other host, dealt out there: see
  /// ``Communicator/startHierarchicalAllToAll(from:_:into:_:counts:during:)``.
  case hierarchical
}

/// What numbers of tokens and rows are sent as.
public enum Payload: Sendable, Equatable {
  /// As they are.
  case float32
  /// Rounded to bfloat16, at half the bytes: every number that travels is off by at most 2⁻⁸ of itself, once on the way
  /// out and once on the way back. Experts in bfloat16 round their input anyway, so to them tokens go without further error.
  case bfloat16

  var bytesPerElement: Int { self == .float32 ? 4 : 2 }
}
