public import ExpertParallel
public import MoE

/// The ranks that compute one model together, as seen by one of them.
///
/// Each rank computes a contiguous part of a batch's sequences. The experts of a layer are spread over the ranks. All
/// other parameters are on every rank, with equal bits.
public struct Ranks {
  /// The communicator of these ranks.
  public let communicator: any Communicator
  /// How the gradients of parameters that several ranks hold are summed over the ranks.
  ///
  /// With `.exact` the gradients, and so the whole run, have the bits of one rank. The ranks add their tokens one
  /// after another, each to the sums of the ranks before it, while the pass goes on. The 2·T·P operations for P
  /// parameters of attention, embedding, dense blocks and routers take the time that they take on one rank. For each
  /// part of the batch P floats travel R − 1 times over one link and once to all ranks.
  ///
  /// With `.reduced` each rank adds up its own tokens, and one all-reduce at the end of the step adds the sums in
  /// order of rank; routers and dense branches are reduced with their layer. The sums are equal on all ranks and from
  /// run to run, but they are rounded differently than on one rank. Each sum of n products differs from the exact sum
  /// by at most γ = (n + 1)·u/(1 − (n + 1)·u) times Σ|products| with u = 2⁻²⁴ (Higham, *Accuracy and Stability of
  /// Numerical Algorithms*, §4.2), and so from the sum of one rank by at most 2·γ·Σ|products|. Here n is the number
  /// of tokens, and twice that for the embedding, which is used at both ends of the model.
  public let gradientSum: ExpertParallelLayer.GradientSum
  /// The number of consecutive ranks that share one copy of the experts, in contiguous parts. Each further group of
  /// that size has a copy for its own tokens (data parallelism). nil stands for all ranks.
  public let expertParallelSize: Int?
  /// How the rows of tokens travel to the experts and back.
  public let exchange: ExchangeOptions
  /// When experts are placed anew; nil stands for never.
  public let rebalancing: RebalancingOptions?
  /// The placements of layers whose experts were placed anew, by the index of the layer.
  var placements: [Int: ExpertPlacement] = [:]

  /// Describes how ranks compute together.
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

  /// Returns the placement of a layer's experts.
  func placement(layer: Int, expertCount: Int) throws(MoEError) -> ExpertPlacement {
    if let placement = placements[layer] { return placement }
    return try ExpertPlacement(
      expertCount: expertCount, rankCount: communicator.size,
      expertParallelSize: expertParallelSize ?? communicator.size)
  }

  /// Whether this is the rank that prints and writes files.
  public var isFirst: Bool { communicator.rank == 0 }

  /// Returns `[R]`: the sequences that each rank computes, which may be none.
  func shares(of sequences: Range<Int>) -> [Range<Int>] {
    let (first, count, size) = (sequences.lowerBound, sequences.count, communicator.size)
    return (0..<size).map { first + $0 * count / size..<first + ($0 + 1) * count / size }
  }

  /// Returns the sequences that this rank computes.
  func share(of sequences: Range<Int>) -> Range<Int> { shares(of: sequences)[communicator.rank] }

  /// Returns the values of all tokens on all ranks, in order of the tokens. A collective.
  ///
  /// - Parameters:
  ///   - values: one value per token of this rank's share of `sequences`.
  ///   - length: tokens per sequence.
  func gather<Element: BitwiseCopyable>(
    _ values: [Element], of sequences: Range<Int>, length: Int, step: String
  ) throws -> [Element] {
    try communicator.allGather(values, counts: shares(of: sequences).map { $0.count * length }, during: step)
  }

  /// Calls `add` on each rank that has some of the sequences, one rank after another. A collective.
  ///
  /// - Parameters:
  ///   - memories: the sums, which are equal on all ranks before and after.
  ///   - add: adds the gradients of this rank's tokens to the sums.
  /// - Returns: a collective that must be called before the sums are used or added to again.
  func sum(
    _ memories: [Memory], of sequences: Range<Int>, step: String, _ add: () throws -> Void
  ) throws -> () throws -> Void {
    let members = shares(of: sequences).enumerated().filter { !$0.element.isEmpty }.map(\.offset)
    return try GradientChain(
      memories.map { ($0, 0..<$0.byteCount) }, group: communicator, members: members, during: step
    ).sum(.exact, add)
  }
}
