public import MoECore

extension Reference {
  /// What a kernel decided in a recorded pass, as the oracle's stages take it: its choices, weighed by these logits,
  /// and the rows of those it kept.
  ///
  /// A dropped choice claims no row, but keeps its part in the sum that its token's weights were divided by.
  ///
  /// - Parameters:
  ///   - record: of the pass.
  ///   - logits: `[T, E]`.
  ///   - policy: of the layer.
  ///   - selectionBias: `[E]`; enters the margins alone.
  ///   - noise: of a training pass.
  public static func decisions(
    of record: RoutingRecord, logits: [[Double]], policy: RoutingPolicy, selectionBias: [Float]? = nil,
    noise: RouterNoise? = nil
  ) -> (routing: Routing, permutation: Permutation) {
    let width = record.expertsPerToken
    func table(_ value: (Int) -> Int) -> [[Int]] {
      (0..<record.tokenCount).map { token in (0..<width).map { value(token * width + $0) } }
    }
    let expertIDs = table { Int(record.expertIDs[$0]) }
    let kept = table { record.slots[$0] < 0 ? -1 : Int(record.expertIDs[$0]) }
    let routing = routing(
      choosing: expertIDs, logits: logits, policy: policy, selectionBias: selectionBias, noise: noise)
    let permutation = permutation(
      expertIDs: kept, weights: routing.weights, expertCount: record.expertCount, capacity: nil,
      priority: .tokenThenChoice, scopeLength: max(record.tokenCount, 1))
    return (routing, permutation)
  }
}
