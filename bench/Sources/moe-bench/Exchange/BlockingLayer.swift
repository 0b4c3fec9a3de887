import CBlockingAllToAll
import CKernels
import MoE

/// A plain layer over ranks with MPI_Alltoallv. It sends one row per choice to the rank of its expert, computes the
/// experts, and sends one row per choice back, step after step. Its routing is given.
final class BlockingLayer {
  private let shape: Shape
  private let input: Activations
  private let weights: KernelWeights
  private let execution: moe_execution
  private let rankCount: Int
  private let localExperts: Range<Int>
  /// The token of each row that is sent, in order of the expert.
  private let sentTokens: [Int]
  /// `[R·E/R]`: the number of rows for each expert of each rank.
  private let sentCounts: [Int32]
  private var receivedCounts: [Int32]
  private let outgoing: Buffer<Float>
  private let incoming: Buffer<Float>
  private let offsets: Buffer<Int64>
  private let order: Buffer<Int32>
  private let rowTiles: Buffer<UInt8>
  private let hiddenTiles: Buffer<UInt8>
  private let rows: Buffer<Float>
  private let scratch: Buffer<UInt8>
  private let choiceRow: Buffer<Int32>
  private let choiceWeight: Buffer<Float>
  /// `[T, D]`.
  let output: Buffer<Float>

  /// - Parameter choiceWeights: `[T, 2]`: the weight of each choice.
  init(
    _ problem: BalancedProblem, choiceWeights: [Float], rank: Int, rankCount: Int, execution: moe_execution
  ) throws {
    shape = problem.shape
    input = problem.input()
    weights = try KernelWeights(RandomWeights(shape: shape, precision: .float32), execution: execution)
    self.execution = execution
    self.rankCount = rankCount
    let (hidden, each) = (shape.hiddenSize, shape.expertCount / rankCount)
    localExperts = rank * each..<(rank + 1) * each
    var lists = [[(token: Int, choice: Int)]](repeating: [], count: shape.expertCount)
    for token in 0..<problem.tokenCount {
      let (first, second) = problem.experts(ofToken: token)
      lists[first].append((token, 2 * token))
      lists[second].append((token, 2 * token + 1))
    }
    sentTokens = lists.joined().map(\.token)
    sentCounts = lists.map { Int32($0.count) }
    receivedCounts = sentCounts
    choiceRow = try Buffer(2 * problem.tokenCount)
    choiceWeight = try Buffer(2 * problem.tokenCount)
    for (row, (_, choice)) in lists.joined().enumerated() {
      choiceRow[choice] = Int32(row)
      choiceWeight[choice] = choiceWeights[choice]
    }
    // A rank receives as many rows as it sends.
    let count = sentTokens.count
    outgoing = try Buffer(count * hidden)
    incoming = try Buffer(count * hidden)
    rows = try Buffer(count * hidden)
    offsets = try Buffer(each + 1)
    order = try Buffer(count)
    func tiles(_ columns: Int) -> Int {
      moe_rows_bytes(execution.isa, MOE_FLOAT32, Int64(count), Int64(each), Int64(columns))
    }
    rowTiles = try Buffer(tiles(hidden))
    hiddenTiles = try Buffer(tiles(shape.feedForwardSize))
    scratch = try Buffer(moe_grouped_gemm_scratch_bytes(execution))
    output = try Buffer(problem.tokenCount * hidden)
  }

  func forward() throws {
    let hidden = shape.hiddenSize
    try check(bench_all_to_all_counts(sentCounts, &receivedCounts, Int32(localExperts.count)))
    input.tokens.withUnsafeBufferPointer { tokens in
      for (row, token) in sentTokens.enumerated() {
        (outgoing.base + row * hidden).update(from: tokens.baseAddress! + token * hidden, count: hidden)
      }
    }
    let (sent, received) = (perRank(sentCounts), perRank(receivedCounts))
    try check(bench_all_to_all_rows(outgoing.base, sent, incoming.base, received, Int32(hidden)))
    compute()
    // Copy from the order of experts to the order in which rows arrived.
    for row in 0..<order.count {
      (outgoing.base + Int(order[row]) * hidden).update(from: rows.base + row * hidden, count: hidden)
    }
    try check(bench_all_to_all_rows(outgoing.base, received, incoming.base, sent, Int32(hidden)))
    var choices = moe_choices(
      T: Int64(input.tokenCount), K: 2, D: Int64(hidden), y: incoming.base, choice_row: choiceRow.base,
      weights: choiceWeight.base)
    moe_combine(execution, &choices, nil, output.base)
  }

  /// Computes the experts alone, on the rows that arrived last.
  func compute() {
    let (hidden, feedForward) = (Int64(shape.hiddenSize), Int64(shape.feedForwardSize))
    let each = localExperts.count
    var row = 0
    var starts = [Int32](repeating: 0, count: rankCount * each)
    for index in 1..<max(starts.count, 1) { starts[index] = starts[index - 1] + receivedCounts[index - 1] }
    for expert in 0..<each {
      for rank in 0..<rankCount {
        let index = rank * each + expert
        for place in 0..<receivedCounts[index] {
          order[row] = starts[index] + place
          row += 1
        }
      }
      offsets[expert + 1] = Int64(row)
    }
    let groups = moe_groups(E: Int64(each), offsets: offsets.base)
    moe_gather_rows(
      execution, MOE_FLOAT32, groups, incoming.base, hidden, order.base, nil, rowTiles.base)
    let share = localExperts.lowerBound
    var networks = moe_networks()
    (networks.D, networks.F, networks.format) = (hidden, feedForward, MOE_FLOAT32)
    networks.activation = MOE_SWIGLU
    networks.up = UnsafeRawPointer(weights.up.base + share * (weights.up.count / shape.expertCount))
    networks.down = UnsafeRawPointer(weights.down.base + share * (weights.down.count / shape.expertCount))
    moe_grouped_gemm_up(execution, &networks, groups, rowTiles.base, nil, hiddenTiles.base, scratch.base)
    moe_grouped_gemm_down(execution, &networks, groups, hiddenTiles.base, rows.base, scratch.base)
  }

  private func perRank(_ counts: [Int32]) -> [Int32] {
    let each = localExperts.count
    return (0..<rankCount).map { counts[$0 * each..<($0 + 1) * each].reduce(0, +) }
  }

  private func check(_ code: Int32) throws {
    guard code == 0 else { throw CheckFailure(description: "MPI fails with code \(code)") }
  }
}
