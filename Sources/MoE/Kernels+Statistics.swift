internal import CKernels
internal import MoECore

extension Kernels {
  /// The sums of each group of the T tokens whose logits and experts the workspace has recorded.
  static func statistics(
    _ grouping: TokenGrouping, tokenCount: Int, expertCount: Int, expertsPerToken: Int, policy: RoutingPolicy,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> RouterStatistics {
    var statistics = RouterStatistics(
      grouping: grouping, expertCount: expertCount, expertsPerToken: expertsPerToken, tokenCount: tokenCount)
    let (groups, ex) = (statistics.groupCount, execution.cValue)
    let logits = unsafe try workspace.routing.logits.reserve(tokenCount * expertCount, of: Float.self)
    let expertIDs = unsafe try workspace.routing.expertIDs.reserve(
      tokenCount * expertsPerToken, of: Int32.self)
    let scratch = unsafe try workspace.kernel.reserve(
      bytes: moe_router_statistics_scratch_bytes(ex, Int64(expertCount)))
    var rule = policy.cRule
    var routes = unsafe moe_routes(
      T: Int64(tokenCount), E: Int64(expertCount), K: Int64(expertsPerToken), logits: logits,
      expert_ids: expertIDs)
    let cGrouping = moe_token_grouping(run_length: Int64(grouping.runLength), groups: Int64(groups))
    unsafe statistics.tokenCounts.withUnsafeMutableBufferPointer { tokens in
      unsafe statistics.counts.withUnsafeMutableBufferPointer { counts in
        unsafe statistics.firstChoiceCounts.withUnsafeMutableBufferPointer { firsts in
          unsafe statistics.probabilitySums.withUnsafeMutableBufferPointer { sums in
            var output = unsafe moe_router_statistics(
              tokens: tokens.baseAddress, counts: counts.baseAddress, first_counts: firsts.baseAddress,
              probability_sums: sums.baseAddress)
            unsafe moe_router_statistics_of(ex, &rule, &routes, cGrouping, &output, scratch)
          }
        }
      }
    }
    return statistics
  }
}

extension RouterLossGradients {
  /// The gradients of probabilities as the kernel takes them, copied side by side into `scratch`.
  func probabilityGradients(
    in scratch: inout Scratch
  ) throws(MoEError) -> [moe_probability_gradients] {
    let values = unsafe try scratch.reserve(
      probability.reduce(0) { $0 + $1.values.count }, of: Float.self)
    var terms: [moe_probability_gradients] = unsafe []
    var offset = 0
    for term in probability {
      unsafe term.values.withUnsafeBufferPointer { elements in
        for index in elements.indices { unsafe values[offset + index] = elements[index] }
      }
      unsafe terms.append(
        moe_probability_gradients(
          values: values + offset,
          grouping: moe_token_grouping(
            run_length: Int64(term.grouping.runLength), groups: Int64(max(term.values.rows, 1)))))
      offset += term.values.count
    }
    return unsafe terms
  }
}
