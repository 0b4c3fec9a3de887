internal import CKernels
internal import MoECore

extension Kernels {
  /// Computes the sums over each group of the T tokens of a recorded pass.
  static func statistics(
    of choices: RouterChoices, by grouping: TokenGrouping, policy: RoutingPolicy, execution: Execution,
    scratch: inout CallScratch
  ) throws(MoEError) -> RouterStatistics {
    var statistics = RouterStatistics(
      grouping: grouping, expertCount: choices.expertCount, expertsPerToken: choices.expertsPerToken,
      tokenCount: choices.tokenCount)
    let (groups, ex) = (statistics.groupCount, execution.cValue)
    let kernel = try scratch.kernel.reserve(
      bytes: moe_router_statistics_scratch_bytes(ex, Int64(choices.expertCount)))
    var rule = policy.cRule(choices.noise, expertCount: choices.expertCount)
    var routes = unsafe choices.cValue()
    let cGrouping = moe_token_grouping(run_length: Int64(grouping.runLength), groups: Int64(groups))
    unsafe statistics.tokenCounts.withUnsafeMutableBufferPointer { tokens in
      unsafe statistics.counts.withUnsafeMutableBufferPointer { counts in
        unsafe statistics.firstChoiceCounts.withUnsafeMutableBufferPointer { firsts in
          unsafe statistics.probabilitySums.withUnsafeMutableBufferPointer { sums in
            var output = unsafe moe_router_statistics(
              tokens: tokens.baseAddress, counts: counts.baseAddress, first_counts: firsts.baseAddress,
              probability_sums: sums.baseAddress)
            unsafe moe_router_statistics_of(ex, &rule, &routes, cGrouping, &output, kernel.base)
          }
        }
      }
    }
    return statistics
  }
}
