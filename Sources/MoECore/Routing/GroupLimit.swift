extension RoutingPolicy {
  /// Selection limited to the best groups of consecutive experts (DeepSeek-V2 §2.1.2, DeepSeek-V3 §2.1.2).
  public struct GroupLimit: Sendable, Equatable {
    /// The score by which groups are compared.
    public enum Score: Sendable, Hashable {
      /// The best expert's score.
      case maximum
      /// The sum of the two best scores.
      case topTwoSum
      /// The sum of this number of best scores; 0 makes all groups equal, so that the first ones are selected
      /// (Megatron-Core, k divided by the number of selected groups).
      case sum(of: Int)
    }

    /// The score of an expert outside the selected groups.
    public enum Mask: Sendable, Equatable {
      /// Zero: such an expert still wins against a negative biased score inside the selected groups.
      case zero
      /// −∞: such an expert is never selected.
      case negativeInfinity
    }

    /// The number of groups, which must divide the number of experts.
    public var count: Int
    /// The number of groups from which each token may choose experts.
    public var selected: Int
    /// The score by which groups are compared.
    public var score: Score
    /// The score of an expert outside the selected groups.
    public var mask: Mask

    /// Makes a limit.
    public init(count: Int, selected: Int, score: Score, mask: Mask) {
      self.count = count
      self.selected = selected
      self.score = score
      self.mask = mask
    }
  }
}

extension RoutingPolicy.GroupLimit.Score {
  /// The number of best scores of a group that are added.
  package var addends: Int {
    switch self {
    case .maximum: 1
    case .topTwoSum: 2
    case .sum(let count): count
    }
  }
}
