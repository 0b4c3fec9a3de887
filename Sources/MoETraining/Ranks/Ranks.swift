public import ExpertParallel
public import MoE

/// The ranks that compute one model together, as seen by one of them.
///
/// A batch is dealt to them sequence by sequence, in contiguous parts. The experts of a layer are spread over them;
/// all other parameters are on every rank, the same to the bit.
public struct Ranks {
  /// The ranks.
  public let communicator: any Communicator
  /// How gradients of parameters that several ranks hold become those of the whole batch.
  ///
  /// With `.exact` they, and with them whole runs, have the bits of one rank. Each rank in its turn adds its tokens to the
  /// sums of the ranks before it, beside the layer that they are of: these products, 2·T·P for P parameters of attention,
  /// embedding, dense blocks and routers, take the time they take on one rank, and the P floats travel R − 1 times over
  /// one link and once to all for each part of the batch.
  ///
  /// With `.reduced` each rank adds up its own tokens and one all-reduce at the end of the step adds the sums in order
  /// of rank; routers and dense branches are reduced with their layer. The same on all ranks and from run to run,
  /// but rounded otherwise than on one rank: each sum of n products differs from the exact one by at most
  /// γ = (n + 1)·u/(1 − (n + 1)·u) times Σ|products| with u = 2⁻²⁴ (Higham, *Accuracy and Stability of Numerical
  /// Algorithms*, §4.2), so from that of one rank by at most 2·γ·Σ|products|. Here n is the number of tokens; for the
  /// embedding, which is summed over both its uses, twice that.
  public let gradientSum: ExpertParallelLayer.GradientSum
  /// Consecutive ranks that together have all experts, contiguously; every so many others have them again, for their own
  /// tokens (data parallelism). nil for all ranks.
  public let expertParallelSize: Int?
  /// How tokens travel to experts.
  public let exchange: ExchangeOptions
  /// When experts are placed anew; nil for never.
  public let rebalancing: RebalancingOptions?
  /// Where the experts of some layers are that have been placed anew.
  var placements: [Int: ExpertPlacement] = [:]

  /// Collects them.
  ///
  /// - Throws: `MoEError.invalidConfiguration` where the ranks do not divide into groups of `expertParallelSize`,
  ///   or where experts are to be placed anew and the ranks are divided into groups.
  public init(
    _ communicator: any Communicator, gradientSum: ExpertParallelLayer.GradientSum = .exact,
    expertParallelSize: Int? = nil, exchange: ExchangeOptions = ExchangeOptions(),
    rebalancing: RebalancingOptions? = nil
  ) throws(MoEError) {
    self.communicator = communicator
    self.gradientSum = gradientSum
    self.expertParallelSize = expertParallelSize
    self.exchange = exchange
    self.rebalancing = rebalancing
    _ = try placement(layer: 0, expertCount: 1)
    if let rebalancing {
      guard rebalancing.interval > 0, rebalancing.copyCount >= 0 else {
        throw .invalidConfiguration(
          "experts are placed anew every \(rebalancing.interval) steps with \(rebalancing.copyCount) copies, "
            + "expected at least 1 and 0")
      }
      if let expertParallelSize, expertParallelSize < communicator.size {
        throw .invalidConfiguration(
          "experts are placed anew over all ranks, but groups of \(expertParallelSize) of "
            + "\(communicator.size) ranks are to have all of them")
      }
    }
  }

  /// Which rank holds which experts of a layer.
  func placement(layer: Int, expertCount: Int) throws(MoEError) -> ExpertPlacement {
    if let placement = placements[layer] { return placement }
    return try ExpertPlacement(
      expertCount: expertCount, rankCount: communicator.size,
      expertParallelSize: expertParallelSize ?? communicator.size)
  }

  /// Whether this is the rank that speaks and writes for all.
  public var isFirst: Bool { communicator.rank == 0 }

  /// The part of some sequences that each rank computes; it may be none.
  func shares(of sequences: Range<Int>) -> [Range<Int>] {
    let (first, count, size) = (sequences.lowerBound, sequences.count, communicator.size)
    return (0..<size).map { first + $0 * count / size..<first + ($0 + 1) * count / size }
  }

  /// This rank's part of some sequences.
  func share(of sequences: Range<Int>) -> Range<Int> { shares(of: sequences)[communicator.rank] }

  /// Brings what each rank has of its tokens to all ranks, in order of the tokens. A collective.
  ///
  /// - Parameters:
  ///   - values: one for each token of this rank's share of `sequences`.
  ///   - length: tokens of a sequence.
  func gather<Element: BitwiseCopyable>(
    _ values: [Element], of sequences: Range<Int>, length: Int, step: String
  ) throws -> [Element] {
    try communicator.allGather(values, counts: shares(of: sequences).map { $0.count * length }, during: step)
  }

  /// Lets each rank that has some of the sequences add its tokens' gradients, one after another. A collective.
  ///
  /// - Parameter memories: the sums, the same on all ranks before and after.
  /// - Returns: what is left to do before the sums are used or added to again, also a collective.
  func sum(
    _ memories: [Memory], of sequences: Range<Int>, step: String, _ add: () throws -> Void
  ) throws -> () throws -> Void {
    let members = shares(of: sequences).enumerated().filter { !$0.element.isEmpty }.map(\.offset)
    return try GradientChain(
      memories.map { ($0, 0..<$0.byteCount) }, group: communicator, members: members, during: step
    ).sum(.exact, add)
  }
}
