import CommunicatorProperties
public import ExpertParallel
import LayerCases
import MoE
import MoECore

/// Hashes of the result of a pass. They are the same for any number of ranks and over every transport.
public struct PassHashes: Sendable, Equatable, CustomStringConvertible {
  private let parts: [(name: String, hash: UInt64)]

  /// Hashes the results of all ranks together. A collective.
  ///
  /// - Throws: `PropertyFailure` if ranks differ in a result that all should have.
  public init(
    of part: (experts: [Int], result: PassResult), over communicator: any Communicator
  ) throws {
    let (result, record) = (part.result, part.result.record)
    func joined<Element: BitwiseCopyable>(_ lists: [Element]...) throws -> UInt64 {
      var hash = Hash()
      for list in lists { hash.add(try communicator.allGatherLists(list, during: "hashes").flatMap { $0 }) }
      return hash.value
    }
    func common(_ what: String, _ hash: Hash) throws -> UInt64 {
      let all = try communicator.allGather([hash.value], during: "hashes")
      try ensure(Set(all).count == 1, "the ranks differ in \(what)")
      return hash.value
    }
    func summed(_ lists: [Int64]...) throws -> UInt64 {
      var hash = Hash()
      for list in lists { hash.add(try communicator.allReduce(list, .sum, during: "hashes")) }
      return hash.value
    }

    var routing = Hash()
    routing.add([
      try joined(record.expertIDs, record.slots),
      try joined(record.expertWeights, record.margins, record.logSumExp),
      try summed(
        record.counts, record.firstChoiceCounts, record.droppedCounts, record.probabilitySums,
        [Int64(record.routedTokenCount)]),
    ])
    var losses = Hash()
    losses.add([result.lossValue])
    for sums in result.statistics {
      losses.add(sums.tokenCounts + sums.counts + sums.firstChoiceCounts + sums.probabilitySums)
      losses.add([sums.logSumExpSquares])
    }
    var router = Hash()
    router.add(result.gradients.routerWeights)
    var dense = Hash()
    if let branch = result.gradients.dense { dense.add(branch) }
    if let gate = result.gradients.denseGate {
      dense.add(gate.weight)
      dense.add(gate.bias ?? [])
    }

    parts = [
      ("output", try joined(result.output)), ("record", routing.value),
      ("losses", try common("the losses", losses)), ("input", try joined(result.inputGradient)),
      ("router", try common("the router's gradients", router)),
      ("dense", try common("the dense branch's gradients", dense)),
      ("experts", try Self.experts(part.experts, result.gradients.experts, communicator)),
    ]
  }

  /// Hashes the experts' gradients in order of expert, and checks that replicas have the same gradients.
  private static func experts(
    _ experts: [Int], _ gradients: [FeedForwardWeights], _ communicator: any Communicator
  ) throws -> UInt64 {
    var mine: [UInt64] = []
    for (expert, gradient) in zip(experts, gradients) {
      var hash = Hash()
      hash.add(gradient)
      mine += [UInt64(expert), hash.value]
    }
    var hashes: [UInt64: UInt64] = [:]
    let all = try communicator.allGatherLists(mine, during: "hashes").flatMap { $0 }
    for index in stride(from: 0, to: all.count, by: 2) {
      let (expert, hash) = (all[index], all[index + 1])
      try ensure(hashes[expert] ?? hash == hash, "the replicas of expert \(expert) differ")
      hashes[expert] = hash
    }
    var hash = Hash()
    hash.add(hashes.sorted { $0.key < $1.key }.map(\.value))
    return hash.value
  }

  /// The hashes with their names.
  public var description: String {
    parts.map { "\($0.name) \(String($0.hash, radix: 16))" }.joined(separator: " ")
  }

  /// Whether all hashes are equal.
  public static func == (left: PassHashes, right: PassHashes) -> Bool {
    left.parts.elementsEqual(right.parts, by: ==)
  }
}

extension Hash {
  fileprivate mutating func add(_ matrix: Matrix) { add(matrix.elements) }

  fileprivate mutating func add(_ router: RouterWeights) {
    add(router.weight)
    add(router.bias ?? [])
  }

  fileprivate mutating func add(_ network: FeedForwardWeights) {
    if let gate = network.gate { add(gate) }
    add(network.up)
    add(network.down)
    add((network.gateBias ?? []) + (network.upBias ?? []) + (network.downBias ?? []))
  }
}
