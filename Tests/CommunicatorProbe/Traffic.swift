import ExpertParallel
import LayerCases
import MoE
import MoECore

/// A few forward passes whose bytes the script counts on the wire.
///
/// - Returns: for each rank the bytes that it cannot but send: each of its tokens once to every other rank that has one
///   of the token's experts, a row back for every choice of another rank's token, and how many of each there are. It is
///   counted from the routing, not from what the layer does.
func trafficLines(_ communicator: any Communicator) throws -> [String] {
  let (rank, size) = (communicator.rank, communicator.size)
  let (hidden, experts, chosen, passes) = (2048, 8, 2, 3)
  let problem = try LayerCase(
    seed: 5, tokenCount: 1, expertCount: experts, expertsPerToken: chosen, hiddenSize: hidden,
    feedForwardSize: 16
  ).problem()
  let execution = try Execution(threadCount: 1)
  let layer = try ExpertParallelLayer(
    problem.configuration, weights: problem.weights, over: communicator, execution: execution)
  var owner = [Int](repeating: 0, count: experts)
  for (rank, held) in layer.placement.experts.enumerated() { for expert in held { owner[expert] = rank } }

  // Ranks of different sizes, all large.
  let input = Activations.random([500 + 100 * rank, hidden], seed: UInt64(rank))
  var (tokens, rows) = ([Int](repeating: 0, count: size), [Int](repeating: 0, count: size))
  for _ in 0..<passes {
    let record = try layer(input, execution: execution).record
    for token in 0..<record.tokenCount {
      let owners = (0..<chosen).map { owner[Int(record.expertIDs[token * chosen + $0])] }
      for other in Set(owners) { tokens[other] += 1 }
      for other in owners { rows[other] += 1 }
    }
  }
  let allTokens = try communicator.allGather(tokens, during: "tokens")
  let allRows = try communicator.allGather(rows, during: "rows")
  return (0..<size).map { rank in
    let others = (0..<size).filter { $0 != rank }
    let sent = others.reduce(0) { $0 + allTokens[rank * size + $1] }
    let returned = others.reduce(0) { $0 + allRows[$1 * size + rank] }
    let counts = passes * others.count * 2 * MemoryLayout<Int>.stride
    return "rank \(rank): \((sent + returned) * hidden * MemoryLayout<Float>.stride + counts)"
  }
}
