public import MoE
public import MoECore

/// A Mixture-of-Experts layer whose experts are spread over ranks: tokens travel to the experts, and rows travel back.
///
/// Rank r holds the r-th contiguous part of the batch's tokens, of any size, and the experts that ``placement`` gives
/// it. Router, dense branch and its gate are on every rank. Output, routing and gradients have the bits of `MoELayer`
/// on the whole batch, unless an option gives them up: see ``GradientSum`` (and what the bits cost), ``ReturnedRows``,
/// ``Payload``, ``Extent`` and tensor parallelism.
///
/// Every method that exchanges is a collective: all ranks call it in the same order, even ranks without tokens. If it
/// throws on one rank alone, the other ranks wait until the communicator's deadline.
public struct ExpertParallelLayer {
  /// The rule by which the gradients of parameters that several ranks hold become those of the whole batch.
  public enum GradientSum: Sendable {
    /// The bits of one rank: each rank adds its tokens to the sums of the ranks before it and sends them to the next
    /// rank; the last rank sends them to all.
    ///
    /// The ranks do this one after another. So the products of the router's and dense branch's gradients,
    /// 2·T·(E·D + matrices·D·F) operations, take the time that they take on one rank, and P floats of parameters travel
    /// R − 1 times over one link and once to all.
    case exact
    /// All ranks add up the gradients of their own tokens at the same time, and an all-reduce adds these sums in order
    /// of rank.
    ///
    /// The sums are the same on all ranks and from run to run, but they are rounded differently from those of one rank.
    /// Both differ from the exact sum of n terms by at most γ·Σ|terms| with γ = (n + 1)·u/(1 − (n + 1)·u), u = 2⁻²⁴
    /// (Higham, *Accuracy and Stability of Numerical Algorithms*, §4.2), and so from one another by at most
    /// 2·γ·Σ|terms|.
    case reduced
  }

  /// The tokens that a capacity, or a loss, counts.
  public enum Extent: Sendable {
    /// The tokens of all ranks, as on one rank.
    case batch
    /// The tokens of each rank separately, as DeepSpeed and Megatron-Core count. Capacities and drops then depend on
    /// the number of ranks, and each rank's output is that of one rank with its tokens alone.
    case rank
  }

  /// The ranks that hold each expert.
  public let placement: ExpertPlacement
  /// The ranks.
  public let communicator: any Communicator
  /// The rule by which gradients of shared parameters are added.
  public let gradientSum: GradientSum
  /// The options for the exchange of tokens and rows.
  public let exchange: ExchangeOptions
  /// The tokens that compete for a capacity of the batch.
  public let capacityExtent: Extent
  /// The layer with only the experts of this rank. It computes the stages that involve no other rank.
  package internal(set) var localLayer: MoELayer
  let meter = OverlapMeter()

  /// The configuration of the layer, the same on all ranks.
  public internal(set) var configuration: MoEConfiguration
  /// The experts of this rank.
  public var localExperts: [Int] { placement.experts[communicator.rank] }

  /// Packs the router, the dense branch and this rank's experts. Not a collective.
  ///
  /// - Parameters:
  ///   - configuration: sizes, activation and routing of the layer, the same on all ranks.
  ///   - source: the weights; it is asked for this rank's experts only.
  ///   - communicator: the ranks.
  ///   - placement: the ranks that hold each expert, the same on all ranks; nil for contiguous parts of the experts, in
  ///     order of rank.
  ///   - precision: the number format in which the networks' weights are stored.
  ///   - gradientSum: the rule by which gradients of shared parameters are added, the same on all ranks.
  ///   - exchange: the options for the exchange of tokens and rows, the same on all ranks.
  ///   - capacityExtent: the tokens that compete for a capacity of the batch, the same on all ranks.
  ///   - execution: the execution whose threads pack; nil for this rank's share of `Execution.automatic()`.
  /// - Throws: as `MoELayer`; `MoEError.invalidConfiguration` for a placement with different numbers of ranks or
  ///   experts, an F that does not divide into shards, or a number of slices outside 1 to ``OverlapDegree/limit``;
  ///   `MoEError.unsupported` for ``ReturnedRows/partialSums`` with a configuration that has no such sums.
  public init(
    _ configuration: MoEConfiguration, weights source: some MoEWeightSource,
    over communicator: any Communicator, placement: ExpertPlacement? = nil,
    precision: Precision = .float32, gradientSum: GradientSum = .exact,
    exchange: ExchangeOptions = ExchangeOptions(), capacityExtent: Extent = .batch,
    execution: Execution? = nil
  ) throws {
    let (rank, size) = (communicator.rank, communicator.size)
    if size > 1, configuration.routing.assignment != .tokenChoice {
      throw MoEError.unsupported(
        "over \(size) ranks tokens choose their experts; the policy has: \(configuration.routing.assignment)")
    }
    let placement =
      placement ?? ExpertPlacement(expertCount: configuration.expertCount, rankCount: size)
    guard placement.rankCount == size, placement.expertCount == configuration.expertCount else {
      throw MoEError.invalidConfiguration(
        "the placement is of \(placement.expertCount) experts on \(placement.rankCount) ranks, expected "
          + "\(configuration.expertCount) on \(size)")
    }
    if case .slices(let count) = exchange.overlap, !(1...OverlapDegree.limit).contains(count) {
      throw MoEError.invalidConfiguration(
        "the exchange has \(count) slices, expected 1 to \(OverlapDegree.limit)")
    }
    let shards = placement.tensorParallelSize
    guard configuration.feedForwardSize % shards == 0 else {
      throw MoEError.invalidConfiguration(
        "the feed-forward size \(configuration.feedForwardSize) does not divide into \(shards) equal parts")
    }
    if exchange.returned == .partialSums {
      guard configuration.routing.weightPlacement == .output, configuration.denseBranch?.gateRows ?? 0 < 2
      else {
        throw MoEError.unsupported(
          "rows cannot be added up before they return where weights multiply the experts' input, or a gate their sum"
        )
      }
    }
    self.configuration = configuration
    self.placement = placement
    self.capacityExtent = capacityExtent
    self.communicator = communicator
    self.gradientSum = gradientSum
    self.exchange = exchange
    localLayer = try MoELayer(
      configuration.withFeedForwardSize(configuration.feedForwardSize / shards),
      weights: ShardedWeights(source: source, shard: rank % shards, shardCount: shards),
      experts: placement.experts[rank], precision: precision,
      execution: execution ?? communicator.share(of: .automatic()))
  }
}

extension MoEConfiguration {
  /// Returns the configuration with another feed-forward size, F.
  func withFeedForwardSize(_ size: Int) throws(MoEError) -> MoEConfiguration {
    try MoEConfiguration(
      hiddenSize: hiddenSize, feedForwardSize: size, expertCount: expertCount,
      expertsPerToken: expertsPerToken,
      activation: activation, routing: routing, denseBranch: denseBranch)
  }
}
