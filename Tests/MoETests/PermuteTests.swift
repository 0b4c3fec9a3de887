import CKernels
import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// A random permutation problem.
struct PermuteCase: Shrinkable, CustomStringConvertible {
  let seed: UInt64
  var tokenCount: Int
  var expertsPerToken: Int
  var expertCount: Int
  var capacity: Int?
  var scope: Int
  var priority: RoutingPolicy.Capacity.Priority
  var isMasked: Bool
  var isSkewed: Bool

  init(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    self.seed = seed
    tokenCount = generator.pick([0, 1, 2, 3, 7, 16, 33, 64, 100])
    expertCount = generator.pick([1, 2, 3, 7, 8, 16, 33])
    expertsPerToken = Int.random(in: 1...min(expertCount, 6), using: &generator)
    capacity = generator.pick([nil, 0, 1, 2, 5, 17, 1000])
    scope = generator.pick([tokenCount, tokenCount + 3, 1, 2, 5, 16])
    priority = generator.pick([
      .choiceThenToken, .tokenThenChoice, .weight, .batchPrioritized, .nextChoice,
    ])
    isMasked = generator.next() % 3 == 0
    isSkewed = generator.next() % 3 == 0
    if scope == 0 { scope = 1 }
  }

  var description: String {
    "seed \(seed): T \(tokenCount) K \(expertsPerToken) E \(expertCount), "
      + "capacity \(capacity.map(String.init) ?? "none") of \(scope) tokens by \(priority)"
      + "\(isMasked ? ", masked" : "")\(isSkewed ? ", skewed" : "")"
  }

  var smaller: [PermuteCase] {
    let steps: [(inout PermuteCase) -> Void] = [
      { $0.tokenCount /= 2 }, { $0.expertsPerToken /= 2 }, { $0.expertCount /= 2 }, { $0.capacity = nil },
      { $0.scope = max($0.tokenCount, 1) }, { $0.isMasked = false }, { $0.isSkewed = false },
    ]
    return steps.compactMap { step in
      var candidate = self
      step(&candidate)
      let isPossible = candidate.expertsPerToken >= 1 && candidate.expertCount >= candidate.expertsPerToken
      return isPossible && candidate != self ? candidate : nil
    }
  }

  /// Returns distinct experts for each token, and weights of few values, so that many are equal.
  func choices() -> (ids: [[Int]], weights: [[Float]]) {
    var generator = SeededGenerator(seed: seed ^ 0xC401CE)
    var ids: [[Int]] = []
    var weights: [[Float]] = []
    for _ in 0..<tokenCount {
      var experts = Array(0..<expertCount)
      experts.shuffle(using: &generator)
      if isSkewed { experts.swapAt(0, experts.firstIndex(of: 0)!) }
      let masked = isMasked && generator.next() % 4 == 0
      ids.append(
        masked ? Array(repeating: -1, count: expertsPerToken) : Array(experts.prefix(expertsPerToken)))
      weights.append((0..<expertsPerToken).map { _ in Float(generator.next() % 5 + 1) * 0.125 })
    }
    return (ids, weights)
  }
}

/// `moe_permute` against the oracle. The results are integers, so they must be equal.
@Suite struct PermuteTests {
  @Test func permutationIsTheOracles() {
    checkProperty(seeds: 0..<600, of: PermuteCase.init(seed:)) { try Self.check($0) }
  }

  /// T·K beyond the 8192 positions of the kernel's block, with and without scopes that begin inside one.
  @Test(arguments: [nil, 0, 40, 5000], RoutingPolicy.Capacity.Priority.all)
  func blocksOfPositionsJoin(_ capacity: Int?, _ priority: RoutingPolicy.Capacity.Priority) throws {
    for scope in [5000, 2300] {
      var large = PermuteCase(seed: 7)
      (large.tokenCount, large.expertsPerToken, large.expertCount) = (5000, 4, 16)
      (large.capacity, large.priority, large.scope) = (capacity, priority, scope)
      try Self.check(large)
    }
  }

  private static func check(_ permuteCase: PermuteCase) throws {
    let (ids, weights) = permuteCase.choices()
    let (t, k, e) = (permuteCase.tokenCount, permuteCase.expertsPerToken, permuteCase.expertCount)
    // Without a capacity no choices compete, and rows are in token order for any priority.
    let expected = Reference.permutation(
      expertIDs: ids, keys: weights.map { $0.map(Double.init) }, expertCount: e,
      capacity: permuteCase.capacity,
      priority: permuteCase.capacity == nil ? .tokenThenChoice : permuteCase.priority,
      scopeLength: permuteCase.capacity == nil ? max(t, 1) : permuteCase.scope)
    let slots = expected.slots.flatMap { $0 }
    let kept = expected.rowToken.count
    var rowWeight = Array(repeating: Float(0), count: kept)
    for (row, weight) in zip(expected.slotRow.flatMap { $0 }, weights.flatMap { $0 }) where row >= 0 {
      rowWeight[row] = weight
    }
    let zeroed = zip(slots, weights.flatMap { $0 }).map { $0 < 0 ? 0 : $1 }

    for isa in InstructionSet.supported {
      for threads in threadCounts {
        let found = Permuted(permuteCase, ids: ids, weights: weights, execution: isa.threads(threads))
        func same<Value: Equatable>(_ a: Value, _ b: Value, _ what: String) throws {
          try ensure(a == b, "\(what) on \(isa), \(threads) threads: \(a), expected \(b)")
        }
        try same(found.count, kept, "rows kept")
        try same(found.offsets.elements.map(Int.init), expected.offsets, "offsets")
        try same(found.rowToken.elements.prefix(kept).map(Int.init), expected.rowToken, "row_token")
        try same(Array(found.rowWeight.elements.prefix(kept)), rowWeight, "row_weight")
        try same(found.choiceRow.elements.map(Int.init), expected.slotRow.flatMap { $0 }, "choice_row")
        try same(found.slots.elements.map(Int.init), slots, "slots")
        try same(found.dropped.elements.map(Int.init), expected.droppedCounts, "dropped")
        try same(found.weights.elements, zeroed, "weights")
        try ensure(found.fencesIntact, "a fence broke on \(isa), \(threads) threads")
        try ensure(found.rowToken.unwrittenCount == t * k - kept, "rows beyond M were written")
      }
    }
  }

  /// The kernel writes only the requested outputs.
  @Test func optionalOutputsMayBeLeftOut() {
    let ids = Fenced<Int32>([1, 0, 1])
    let weights = Fenced<Float>([1, 2, 3])
    let (offsets, rowToken) = (Fenced<Int64>(count: 3), Fenced<Int32>(count: 3))
    let choiceRow = Fenced<Int32>(count: 3)
    let scratch = Fenced.scratch(moe_permute_scratch_bytes(3, 1, 2, 3))
    var out = unsafe moe_permutation()
    unsafe out.offsets = offsets.base
    unsafe out.row_token = rowToken.base
    unsafe out.choice_row = choiceRow.base
    let count = unsafe moe_permute(
      InstructionSet.scalar.threads(1), ids.base, weights.base, 3, 1, 2,
      moe_capacity_rule(capacity: -1, priority: MOE_TOKEN_THEN_CHOICE, scope: 3, keys: nil), &out, scratch.raw
    )
    #expect(count == 3)
    #expect(offsets.elements == [0, 1, 3])
    #expect(rowToken.elements == [1, 0, 2])
    #expect(choiceRow.elements == [1, 0, 2])
    #expect(ids.fencesIntact && scratch.fencesIntact)
  }
}

extension RoutingPolicy.Capacity.Priority {
  /// Every priority once.
  static let all: [Self] = [
    .choiceThenToken, .tokenThenChoice, .weight, .batchPrioritized, .nextChoice,
  ]

  /// The C value.
  var name: moe_priority {
    switch self {
    case .tokenThenChoice: MOE_TOKEN_THEN_CHOICE
    case .choiceThenToken: MOE_CHOICE_THEN_TOKEN
    case .weight, .gate, .random: MOE_BY_KEY
    case .batchPrioritized: MOE_BATCH_PRIORITIZED
    case .nextChoice: MOE_NEXT_CHOICE
    }
  }
}

/// The outputs of `moe_permute` for a case.
private struct Permuted {
  let weights: Fenced<Float>
  let offsets: Fenced<Int64>
  let rowToken: Fenced<Int32>
  let rowWeight: Fenced<Float>
  let choiceRow: Fenced<Int32>
  let slots: Fenced<Int32>
  let dropped: Fenced<Int64>
  let count: Int
  private let input: Fenced<Int32>
  private let keys: Fenced<Float>
  private let scratch: Fenced<UInt8>

  init(_ permuteCase: PermuteCase, ids: [[Int]], weights: [[Float]], execution: moe_execution) {
    let (t, k, e) = (permuteCase.tokenCount, permuteCase.expertsPerToken, permuteCase.expertCount)
    input = Fenced(ids.flatMap { $0.map(Int32.init) })
    self.weights = Fenced(weights.flatMap { $0 })
    keys = Fenced(weights.flatMap { $0 })
    (offsets, dropped) = (Fenced(count: e + 1), Fenced(count: e))
    (rowToken, rowWeight) = (Fenced(count: t * k), Fenced(count: t * k))
    (choiceRow, slots) = (Fenced(count: t * k), Fenced(count: t * k))
    scratch = .scratch(moe_permute_scratch_bytes(Int64(t), Int64(k), Int64(e), Int64(permuteCase.scope)))
    var out = unsafe moe_permutation(
      offsets: offsets.base, row_token: rowToken.base, row_weight: rowWeight.base, choice_row: choiceRow.base,
      slots: slots.base, dropped: dropped.base)
    count = unsafe Int(
      moe_permute(
        execution, input.base, self.weights.base, Int64(t), Int64(k), Int64(e),
        moe_capacity_rule(
          capacity: Int64(permuteCase.capacity ?? -1), priority: permuteCase.priority.name,
          scope: Int64(permuteCase.scope), keys: keys.base), &out, scratch.raw))
  }

  var fencesIntact: Bool {
    input.fencesIntact && keys.fencesIntact && weights.fencesIntact && offsets.fencesIntact
      && rowToken.fencesIntact
      && rowWeight.fencesIntact && choiceRow.fencesIntact && slots.fencesIntact && dropped.fencesIntact
      && scratch.fencesIntact
  }
}
