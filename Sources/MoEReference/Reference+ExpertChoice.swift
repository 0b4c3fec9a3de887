public import MoECore

extension Reference {
  /// Lets each expert choose its tokens (Zhou et al. 2022, §3.2): `capacity` tokens of each scope, those of the largest
  /// scores, then the smallest index. A masked token is never chosen.
  ///
  /// - Parameters:
  ///   - logits: the logits `[T, E]`.
  ///   - form: the scores by which experts compare tokens.
  ///   - mask: the mask `[T]`, false for padding.
  ///   - capacity: the number of tokens of each expert and scope.
  ///   - scopeLength: the number of tokens of a scope.
  /// - Returns: for each token its experts with their slots and weights, the largest weight first, then the smaller
  ///   index.
  public static func expertChoice(
    logits: [[Double]], form: RoutingPolicy.ExpertChoice, mask: [Bool]? = nil, capacity: Int, scopeLength: Int
  ) -> [[(expert: Int, slot: Int, weight: Double)]] {
    var chosen = logits.map { _ in [(expert: Int, slot: Int, weight: Double)]() }
    for start in stride(from: 0, to: logits.count, by: max(scopeLength, 1)) {
      let scope = start..<min(start + max(scopeLength, 1), logits.count)
      let real = scope.filter { mask?[$0] ?? true }
      for expert in logits[start].indices {
        let scores: [Double] =
          switch form {
          case .softmaxOverExperts: real.map { softmax(logits[$0])[expert] }
          case .softmaxOverTokens: softmax(real.map { logits[$0][expert] })
          }
        for (slot, place) in topK(scores, count: min(capacity, real.count)).enumerated() {
          chosen[real[place]].append((expert, slot, scores[place]))
        }
      }
    }
    return chosen.map { choices in
      let sharing = form == .softmaxOverTokens ? Double(max(choices.count, 1)) : 1
      return choices.map { ($0.expert, $0.slot, $0.weight / sharing) }
        .sorted { $0.weight != $1.weight ? $0.weight > $1.weight : $0.expert < $1.expert }
    }
  }
}
