import ExpertParallel
import MoECore

extension CommunicatorProperty {
  static let groups = [splits, unevenHistories, grids, interleaved]

  /// Ranks that have split more often than others agree with them on what the next group is called.
  static let unevenHistories = CommunicatorProperty("ranks of many groups and ranks of few form one") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    let busy = generator.below(size)
    if let few = try communicator.split(color: rank <= busy ? 0 : nil, during: "the busy ones") {
      for round in 0..<3 { _ = try few.split(color: few.rank % 2, during: "round \(round)") }
    }
    let pairs = (0..<size).filter { $0 / 2 == rank / 2 }
    guard let pair = try communicator.split(color: rank / 2, during: "pairs") else {
      throw PropertyFailure("a group is missing")
    }
    let members = try pair.allGather([rank], during: "members of a pair")
    try ensure(members == pairs, "the pair of rank \(rank) is \(members)")
    hash.add(members)
  }

  static let splits = CommunicatorProperty("split orders each color by key and then rank") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    let colors = (0..<size).map { _ in generator.below(4) == 0 ? nil : generator.below(3) }
    let keys = (0..<size).map { _ in generator.below(3) - 1 }
    let part = try communicator.split(color: colors[rank], key: keys[rank], during: "random colors")
    guard let color = colors[rank] else {
      try ensure(part == nil, "a rank without a color got a group")
      return
    }
    guard let part else { throw PropertyFailure("a rank of color \(color) got no group") }
    let members = (0..<size).filter { colors[$0] == color }.sorted { (keys[$0], $0) < (keys[$1], $1) }
    let gathered = try part.allGather([rank], during: "members")
    try ensure(gathered == members, "members \(gathered), expected \(members)")
    try ensure(part.rank == members.firstIndex(of: rank), "rank \(part.rank) of \(members)")
    let sum = try part.allReduce(numbers(2000, of: rank, case: 1), .sum, during: "sum of a part")
    try ensure(
      sameBits(sum, rankOrderedSum(members.map { numbers(2000, of: $0, case: 1) })), "the sum of \(members)")
    hash.add(gathered)
    hash.add(sum)
  }

  /// Expert × data groups, split again for tensor parallelism, as a layer would use them.
  static let grids = CommunicatorProperty("rows and columns of a grid reduce apart and together") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    let width = 1 + generator.below(size)
    guard let experts = try communicator.split(color: rank / width, during: "expert groups"),
      let replicas = try communicator.split(color: rank % width, during: "replica groups"),
      let halves = try experts.split(color: experts.rank % 2, key: -rank, during: "tensor groups")
    else { throw PropertyFailure("a group is missing") }
    let one = Int64(1) << Int64(rank)
    let rows = try experts.allReduce(one, .sum, during: "experts")
    let all = try replicas.allReduce(rows, .sum, during: "replicas")
    let peers = (0..<size).filter { $0 / width == rank / width }
    try ensure(
      rows == peers.reduce(0) { $0 + Int64(1) << Int64($1) }, "the row of width \(width) gave \(rows)")
    // Ragged grids have short last rows, whose columns are missing further right.
    let column = (0..<size).filter { $0 % width == rank % width }
    let reached = column.flatMap { member in (0..<size).filter { $0 / width == member / width } }
    try ensure(all == reached.reduce(0) { $0 + Int64(1) << Int64($1) }, "width \(width) gave \(all)")
    let halfMembers = try halves.allGather([rank], during: "halves")
    try ensure(
      halfMembers == peers.filter { ($0 - peers[0]) % 2 == experts.rank % 2 }.reversed(),
      "the half of rank \(rank) of width \(width) is \(halfMembers)")
    hash.add([rows, all])
  }

  /// One rank waits for its group first, another for all: neither may keep the other.
  static let interleaved = CommunicatorProperty("requests of a group and of its parts go on side by side") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    let seed = generator.next()
    let count = 1 + generator.below(30_000)
    guard let part = try communicator.split(color: rank % 2, during: "odd and even") else {
      throw PropertyFailure("a group is missing")
    }
    let mine = numbers(count, of: rank, case: seed)
    let (whole, half) = (MessageBuffer(mine), MessageBuffer(mine))
    let ofAll = try communicator.startAllReduce(whole, of: Float.self, count: count, .sum, during: "all")
    let ofPart = try part.startAllReduce(half, of: Float.self, count: count, .sum, during: "part")
    if (rank / 2).isMultiple(of: 2) {
      try ofAll.wait()
      try ofPart.wait()
    } else {
      while try !ofPart.test() {}
      try ofAll.wait()
    }
    let peers = (0..<size).filter { $0 % 2 == rank % 2 }
    let sums = [whole, half].map { $0.elements(of: Float.self) }
    try ensure(
      sameBits(sums[0], rankOrderedSum((0..<size).map { numbers(count, of: $0, case: seed) })), "sum of all")
    try ensure(
      sameBits(sums[1], rankOrderedSum(peers.map { numbers(count, of: $0, case: seed) })), "sum of part")
    hash.add(sums[0])
    hash.add(sums[1])
  }
}
