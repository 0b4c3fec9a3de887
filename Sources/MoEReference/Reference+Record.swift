public import MoECore

extension Reference {
  /// Converts a kernel's record of a pass into a routing and a permutation for the oracle's stages. The routing has the
  /// kernel's choices with weights from `logits`; the permutation has the rows of the choices that the kernel kept.
  ///
  /// A dropped choice has no row, but its score stays in the sum by which its token's weights are divided.
  ///
  /// - Parameters:
  ///   - record: the record of the pass.
  ///   - logits: the logits `[T, E]`.
  ///   - policy: the routing policy of the layer.
  ///   - selectionBias: the selection bias `[E]`, which affects only selection scores and margins.
  ///   - noise: the noise of the pass, if it is a training pass with noise.
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
      expertIDs: kept, keys: routing.weights, expertCount: record.expertCount, capacity: nil,
      priority: .tokenThenChoice, scopeLength: max(record.tokenCount, 1))
    return (routing, permutation)
  }
}
