public import MoECore

extension Reference {
  /// The kept choices as rows ordered by expert, then by scope, then by slot.
  public struct Permutation: Sendable, Equatable {
    /// `[T, K]`: the slot of each choice, which is its position in its expert within its scope; −1 for a dropped choice
    /// and for a masked token.
    public var slots: [[Int]]
    /// `[E + 1]`: expert e has the rows `offsets[e]..<offsets[e + 1]`.
    public var offsets: [Int]
    /// `[M]`: the token of each row.
    public var rowToken: [Int]
    /// `[T, K]`: the row of each choice; −1 for a dropped choice and for a masked token.
    public var slotRow: [[Int]]
    /// `[E]`: the number of choices of each expert, before dropping.
    public var counts: [Int]
    /// `[E]`: the number of dropped choices of each expert.
    public var droppedCounts: [Int]
  }

  /// One choice of one token, which competes for a row of its expert.
  private struct Claim {
    let token: Int
    let choice: Int
    let weight: Double
  }

  /// Assigns to each choice a row of its expert, or drops the choice.
  ///
  /// A scope is a run of `scopeLength` consecutive tokens. Each choice of an expert is a claim on one of its rows, and
  /// the claims on one expert compete within one scope. The first `capacity` claims in the order of `priority` are kept
  /// and get slots in that order. For the priority `weight`, the kept claims get slots in token order.
  ///
  /// - Parameters:
  ///   - expertIDs: the chosen experts `[T, K]`; a choice of −1 claims no row.
  ///   - weights: the routing weights `[T, K]`, used only by the priority `RoutingPolicy.Capacity.Priority.weight`.
  ///   - expertCount: E, the number of experts.
  ///   - capacity: the number of rows of one expert for one scope; nil if no choice is dropped.
  ///   - priority: the order in which claims are kept.
  ///   - scopeLength: the number of tokens of a scope.
  public static func permutation(
    expertIDs: [[Int]], weights: [[Double]], expertCount: Int, capacity: Int?,
    priority: RoutingPolicy.Capacity.Priority = .choiceThenToken, scopeLength: Int
  ) -> Permutation {
    let tokenCount = expertIDs.count
    let unassigned = expertIDs.map { $0.map { _ in -1 } }
    var result = Permutation(
      slots: unassigned, offsets: [0], rowToken: [], slotRow: unassigned, counts: [], droppedCounts: [])
    for expert in 0..<expertCount {
      var (claimed, kept) = (0, 0)
      for start in stride(from: 0, to: tokenCount, by: max(scopeLength, 1)) {
        let scope = start..<min(start + scopeLength, tokenCount)
        let claims = scope.flatMap { token in
          expertIDs[token].indices.filter { expertIDs[token][$0] == expert }.map {
            Claim(token: token, choice: $0, weight: weights[token][$0])
          }
        }
        let accepted = accepted(claims, capacity: capacity ?? claims.count, priority: priority)
        for (slot, claim) in accepted.enumerated() {
          result.slots[claim.token][claim.choice] = slot
          result.slotRow[claim.token][claim.choice] = result.rowToken.count
          result.rowToken.append(claim.token)
        }
        claimed += claims.count
        kept += accepted.count
      }
      result.counts.append(claimed)
      result.droppedCounts.append(claimed - kept)
      result.offsets.append(result.rowToken.count)
    }
    return result
  }

  /// Returns the claims that get a row, in the order of their slots.
  private static func accepted(
    _ claims: [Claim], capacity: Int, priority: RoutingPolicy.Capacity.Priority
  ) -> [Claim] {
    func tokenByToken(_ a: Claim, _ b: Claim) -> Bool { (a.token, a.choice) < (b.token, b.choice) }
    switch priority {
    case .choiceThenToken:
      return Array(claims.sorted { ($0.choice, $0.token) < ($1.choice, $1.token) }.prefix(capacity))
    case .tokenThenChoice:
      return Array(claims.sorted(by: tokenByToken).prefix(capacity))
    case .weight:
      let heaviest = claims.sorted { a, b in
        a.weight != b.weight ? a.weight > b.weight : tokenByToken(a, b)
      }
      return heaviest.prefix(capacity).sorted(by: tokenByToken)
    }
  }
}
