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
    let key: Double
    /// The key of the token's first choice.
    let firstKey: Double
  }

  /// Assigns to each choice a row of its expert, or drops the choice.
  ///
  /// A scope is a run of `scopeLength` consecutive tokens. Each choice of an expert is a claim on one of its rows, and
  /// the claims on one expert compete within one scope. The first `capacity` claims in the order of `priority` are kept
  /// and get slots in that order. If each claim has a key of its own, the kept claims get slots in token order.
  ///
  /// - Parameters:
  ///   - expertIDs: the chosen experts `[T, K]`; a choice of −1 claims no row.
  ///   - keys: the keys `[T, K]` of the priorities that have them: see ``claimKeys(_:policy:noise:)``.
  ///   - expertCount: E, the number of experts.
  ///   - capacity: the number of rows of one expert for one scope; nil if no choice is dropped.
  ///   - priority: the order in which claims are kept.
  ///   - claimsUntaken: whether choices that are not taken claim rows too, which they leave again.
  ///   - scopeLength: the number of tokens of a scope.
  public static func permutation(
    expertIDs: [[Int]], keys: [[Double]], expertCount: Int, capacity: Int?,
    priority: RoutingPolicy.Capacity.Priority = .choiceThenToken, claimsUntaken: Bool = false,
    scopeLength: Int
  ) -> Permutation {
    let tokenCount = expertIDs.count
    if claimsUntaken, let capacity {
      return permutationAfterUntaken(
        expertIDs, keys: keys, expertCount: expertCount, capacity: capacity, scopeLength: scopeLength)
    }
    if priority == .nextChoice, let capacity {
      let claims = firstWithRoom(
        expertIDs, expertCount: expertCount, capacity: capacity, scopeLength: scopeLength)
      let kept = permutation(
        expertIDs: claims.kept, keys: keys, expertCount: expertCount, capacity: nil,
        priority: .choiceThenToken, scopeLength: scopeLength)
      let tried = claims.tried
      var result = kept
      result.counts = (0..<expertCount).map { e in expertIDs.reduce(0) { $0 + $1.count { $0 == e } } }
      result.droppedCounts = (0..<expertCount).map { e in
        tried.reduce(0) { $0 + $1.count { $0 == e } } - kept.counts[e]
      }
      return result
    }
    let unassigned = expertIDs.map { $0.map { _ in -1 } }
    var result = Permutation(
      slots: unassigned, offsets: [0], rowToken: [], slotRow: unassigned, counts: [], droppedCounts: [])
    for expert in 0..<expertCount {
      var (claimed, kept) = (0, 0)
      for start in stride(from: 0, to: tokenCount, by: max(scopeLength, 1)) {
        let scope = start..<min(start + scopeLength, tokenCount)
        let claims = scope.flatMap { token in
          expertIDs[token].indices.filter { expertIDs[token][$0] == expert }.map {
            Claim(token: token, choice: $0, key: keys[token][$0], firstKey: keys[token][0])
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

  /// Drops choices where also those that are not taken claim rows, and leaves out the latter afterwards.
  private static func permutationAfterUntaken(
    _ expertIDs: [[Int]], keys: [[Double]], expertCount: Int, capacity: Int, scopeLength: Int
  ) -> Permutation {
    let claims = permutation(
      expertIDs: expertIDs.map { $0.map { $0 < -1 ? expert(of: $0) : $0 } }, keys: keys,
      expertCount: expertCount, capacity: capacity, priority: .tokenThenChoice, scopeLength: scopeLength)
    let kept = zip(expertIDs, claims.slots).map { ids, slots in zip(ids, slots).map { $1 < 0 ? -1 : $0 } }
    var result = permutation(
      expertIDs: kept.map { $0.map { $0 < 0 ? -1 : $0 } }, keys: keys, expertCount: expertCount,
      capacity: nil, priority: .tokenThenChoice, scopeLength: scopeLength)
    let counts = (0..<expertCount).map { e in expertIDs.reduce(0) { $0 + $1.count { $0 == e } } }
    result.droppedCounts = zip(counts, result.counts).map { $0 - $1 }
    result.counts = counts
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
    case .weight, .gate, .random:
      let first = claims.sorted { a, b in a.key != b.key ? a.key > b.key : tokenByToken(a, b) }
      return first.prefix(capacity).sorted(by: tokenByToken)
    case .batchPrioritized:
      let first = claims.sorted { a, b in
        if a.choice != b.choice { return a.choice < b.choice }
        return a.firstKey != b.firstKey ? a.firstKey > b.firstKey : a.token < b.token
      }
      return Array(first.prefix(capacity))
    case .nextChoice:
      return claims
    }
  }

  /// Returns for each token the first of its choices that has a row left, once all tokens of its scope have tried the
  /// choice before: `kept` with −1 for all other choices, `tried` with −1 for the choices that were not tried.
  private static func firstWithRoom(
    _ expertIDs: [[Int]], expertCount: Int, capacity: Int, scopeLength: Int
  ) -> (kept: [[Int]], tried: [[Int]]) {
    var kept = expertIDs.map { $0.map { _ in -1 } }
    var tried = kept
    for start in stride(from: 0, to: expertIDs.count, by: max(scopeLength, 1)) {
      var rows = Array(repeating: 0, count: expertCount)
      let scope = start..<min(start + max(scopeLength, 1), expertIDs.count)
      for choice in expertIDs[start].indices {
        for token in scope where kept[token].allSatisfy({ $0 < 0 }) && expertIDs[token][choice] >= 0 {
          let expert = expertIDs[token][choice]
          tried[token][choice] = expert
          if rows[expert] < capacity {
            rows[expert] += 1
            kept[token][choice] = expert
          }
        }
      }
    }
    return (kept, tried)
  }

  /// Returns the keys `[T, K]` by which the choices of a routing claim rows; zeros if the order has no keys.
  public static func claimKeys(
    _ routing: Routing, policy: RoutingPolicy, noise: RouterNoise? = nil
  ) -> [[Double]] {
    switch policy.capacity?.priority {
    case nil, .choiceThenToken, .tokenThenChoice, .nextChoice:
      return routing.weights.map { $0.map { _ in 0 } }
    case .weight: return routing.weights
    case .gate, .batchPrioritized: return routing.gates
    case .random:
      // Where the first choice was drawn, its numbers are used up.
      let isDrawn = noise != nil && policy.choice.first != .best
      return routing.expertIDs.enumerated().map { token, chosen in
        chosen.enumerated().map { choice, expert in
          let place = (choice + (isDrawn ? 1 : 0)) * (routing.expertCount + 1) + expert
          return expert < 0 ? 0 : uniform(noise ?? RouterNoise(seed: 0), token: token, place: place)
        }
      }
    }
  }
}
