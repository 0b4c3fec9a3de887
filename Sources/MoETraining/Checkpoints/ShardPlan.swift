package import MoECheckpoints

/// The rank that writes each tensor of a checkpoint.
package struct ShardPlan: Equatable {
  /// A tensor's shape and the ranks that hold it.
  package struct Holding: Equatable {
    package var shape: [Int]
    package var ranks: [Int]

    var byteCount: Int { shape.reduce(4, *) }
  }

  /// The rank that writes each tensor.
  package private(set) var writers: [String: Int] = [:]
  /// The shape of each tensor.
  package private(set) var shapes: [String: [Int]] = [:]

  /// Assigns each tensor to one of the ranks that hold it. Tensors with several holders are assigned largest first,
  /// each to the holder that has the fewest bytes to write so far. So the bytes of two ranks that hold equal sets of
  /// tensors differ by at most the largest tensor assigned in this way.
  ///
  /// - Parameter held: the names and shapes that each rank holds, in order of rank.
  /// - Throws: `CheckpointError` naming a tensor that has two shapes.
  package init(held: [[MatrixName]]) throws(CheckpointError) {
    var holdings: [String: Holding] = [:]
    for (rank, tensors) in held.enumerated() {
      for tensor in tensors {
        let (name, shape) = (tensor.name, tensor.shape)
        let known = holdings[name, default: Holding(shape: shape, ranks: [])]
        guard known.shape == shape else {
          throw CheckpointError(
            "checkpoint",
            "tensor \(quoted(name)) has shape \(shape) on rank \(rank), expected \(known.shape) as on rank "
              + "\(known.ranks[0])")
        }
        holdings[name] = Holding(shape: shape, ranks: known.ranks + [rank])
      }
    }
    var written = [Int](repeating: 0, count: held.count)
    func assign(_ name: String, _ holding: Holding, to rank: Int) {
      writers[name] = rank
      shapes[name] = holding.shape
      written[rank] += holding.byteCount
    }
    for (name, holding) in holdings where holding.ranks.count == 1 {
      assign(name, holding, to: holding.ranks[0])
    }
    let shared = holdings.filter { $0.value.ranks.count > 1 }.sorted {
      ($1.value.byteCount, $0.key) < ($0.value.byteCount, $1.key)
    }
    for (name, holding) in shared {
      assign(name, holding, to: holding.ranks.min { (written[$0], $0) < (written[$1], $1) }!)
    }
  }
}
