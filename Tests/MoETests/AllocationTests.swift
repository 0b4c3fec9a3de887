import AllocationCounter
import MoE
import MoECore
import TestSupport
import Testing

/// A pass that is no larger than the pass before allocates nothing, in Swift or in C, on any thread of the team.
@Suite(.enabled(if: allocation_counter_works(), "sanitizers have a malloc of their own"))
struct AllocationTests {
  /// Configurations with the parts that a layer may have beside its experts.
  static let variants: [MoEConfiguration] = {
    func make(_ routing: RoutingPolicy, _ branch: MoEConfiguration.DenseBranch?) -> MoEConfiguration {
      try! MoEConfiguration(
        hiddenSize: 48, feedForwardSize: 40, expertCount: 8, expertsPerToken: 2, routing: routing,
        denseBranch: branch)
    }
    let tight = CapacityRule.exact(numerator: 3, denominator: 4, minimum: 1)
    var byWeight = RoutingPolicy.softmaxTopK(normalized: true)
    byWeight.capacity = .init(rule: tight, priority: .weight)
    var bySequence = RoutingPolicy.topKSoftmax
    bySequence.capacity = .init(rule: tight, priority: .tokenThenChoice, scope: .sequence)
    return [
      make(.softmaxTopK(normalized: true), nil), make(.gshardTop2(capacity: tight), nil),
      make(byWeight, .shared(feedForwardSize: 16)), make(bySequence, .gatedShared(feedForwardSize: 16)),
      make(
        .deepseekV3(groups: 4, selectedGroups: 2, normalized: true, scale: 2.5),
        .residual(feedForwardSize: 24)),
    ]
  }()

  @Test(arguments: Precision.allCases, variants.indices)
  func steadyStateAllocatesNothing(_ precision: Precision, _ variant: Int) throws {
    let configuration = Self.variants[variant]
    let layer = try MoELayer(
      configuration, weights: MoEWeights.random(for: configuration, seed: 1), precision: precision)
    for isa in InstructionSet.supported {
      let execution = try Execution(instructionSet: isa, threadCount: 2)
      let input = Activations.random([4, 150, 48], seed: 2)
      let mask = (0..<600).map { $0 % 7 != 0 }
      var output = input
      var record = RoutingRecord()
      var workspace = Workspace()
      func pass() throws {
        try layer.forward(
          input, mask: mask, into: &output, record: &record, workspace: &workspace, execution: execution)
      }
      try pass()
      try pass()
      allocation_counter_start(2)
      for _ in 0..<10 { try pass() }
      let count = allocation_counter_stop(2)
      #expect(count == 0, "\(count) allocations in 10 passes on \(isa)")
    }
  }

  /// The counter counts one array, and none after it has stopped.
  @Test func counterCounts() {
    allocation_counter_start(2)
    let values = Array(repeating: 1, count: 1000)
    let counted = allocation_counter_stop(2)
    #expect(counted >= 1 && values.count == 1000)
  }
}
