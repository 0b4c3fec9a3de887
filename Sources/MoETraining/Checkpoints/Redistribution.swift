package import ExpertParallel
internal import MoECheckpoints
internal import MoECore

/// Sends matrices from the ranks that hold them to the ranks that want them, by one all-to-all. A collective.
///
/// A matrix that a rank holds itself is not sent. Any other matrix is sent by one of the ranks that hold it. Beside
/// `held` and `wanted`, a rank needs memory for twice the floats that it sends and receives: once as matrices and
/// once as messages.
///
/// - Parameters:
///   - held: the matrices that this rank holds. Matrices of one name are equal on all ranks.
///   - wanted: the matrices that this rank is to get, in other memory than `held`.
///   - communicator: the ranks that send and receive.
/// - Returns: the number of bytes that this rank received from others.
/// - Throws: `CheckpointError`, equal on all ranks and before anything is sent, naming a matrix that no rank holds or
///   that a rank wants in another shape; `CommunicationError`.
@discardableResult
package func redistribute(
  from held: [CheckpointEntry], to wanted: [CheckpointEntry], over communicator: any Communicator
) throws -> Int {
  let (rank, label) = (communicator.rank, "moving experts")
  let ranks = CheckpointRanks(communicator)
  let routes = try MatrixRoutes(
    held: ranks.gather(held, step: label), wanted: ranks.gather(wanted, step: label))
  let sources = Dictionary(held.map { ($0.name, $0) }) { first, _ in first }
  var sent: [Float] = []
  var counts: [Int] = []
  for target in 0..<communicator.size {
    let before = sent.count
    if target != rank {
      for name in routes.names(from: rank, to: target) { sent += sources[name]!.read().elements }
    }
    counts.append(sent.count - before)
  }
  let (received, _) = try communicator.allToAll(sent, counts: counts, during: label)
  let targets = Dictionary(wanted.map { ($0.name, $0) }) { first, _ in first }
  var first = 0
  for source in 0..<communicator.size {
    for name in routes.names(from: source, to: rank) {
      let target = targets[name]!
      if source == rank {
        target.write(sources[name]!.read())
        continue
      }
      let (rows, columns) = (target.shape[0], target.shape[1])
      target.write(
        try Matrix(rows: rows, columns: columns, elements: received[first..<first + rows * columns]))
      first += rows * columns
    }
  }
  return received.count * MemoryLayout<Float>.stride
}

/// The source and the target of each wanted matrix, equal on all ranks.
private struct MatrixRoutes {
  /// `[R]` lists: for each rank, the matrices that it wants, in order, and the rank that each comes from.
  private let routes: [[(name: String, source: Int)]]

  init(held: [[MatrixName]], wanted: [[MatrixName]]) throws(CheckpointError) {
    var holders: [String: (shape: [Int], ranks: [Int])] = [:]
    for (rank, matrices) in held.enumerated() {
      for matrix in matrices { holders[matrix.name, default: (matrix.shape, [])].ranks.append(rank) }
    }
    var routes: [[(name: String, source: Int)]] = []
    for (rank, matrices) in wanted.enumerated() {
      var route: [(name: String, source: Int)] = []
      for matrix in matrices {
        guard let holder = holders[matrix.name] else {
          throw CheckpointError("rank \(rank)", "wants tensor \(quoted(matrix.name)), which no rank has")
        }
        guard holder.shape == matrix.shape else {
          throw CheckpointError(
            "rank \(rank)",
            "wants tensor \(quoted(matrix.name)) in shape \(matrix.shape), but rank \(holder.ranks[0]) has it in "
              + "\(holder.shape)")
        }
        let source = holder.ranks.contains(rank) ? rank : holder.ranks[rank % holder.ranks.count]
        route.append((matrix.name, source))
      }
      routes.append(route)
    }
    self.routes = routes
  }

  func names(from source: Int, to target: Int) -> [String] {
    routes[target].filter { $0.source == source }.map(\.name)
  }
}
