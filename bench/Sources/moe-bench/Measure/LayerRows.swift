/// One layer's figures for one number of tokens.
struct LayerRow: Encodable {
  let tokenCount: Int
  let contender: String
  let medianMilliseconds: Double
  let minimumMilliseconds: Double
  let rounds: Int
  let tokensPerSecond: Double
  let gigaflopsPerSecond: Double
  let shareOfFMA: Double
  let gigabytesPerSecond: Double
  let shareOfRead: Double
  let relativeError: Double
  private let shape: String

  init(
    shape: Shape, tokenCount: Int, contender: Contender, timings: Timings, work: Work, limits: Limits
  ) {
    self.shape = shape.name
    self.tokenCount = tokenCount
    self.contender = contender.name
    let median = timings.median
    medianMilliseconds = median * 1e3
    minimumMilliseconds = timings.minimum * 1e3
    rounds = timings.rounds.count
    tokensPerSecond = Double(tokenCount) / median
    gigaflopsPerSecond = work.flops / median * 1e-9
    shareOfFMA = work.flops / median / limits.flopsPerSecond(contender.arithmetic)
    gigabytesPerSecond = work.bytes / median * 1e-9
    shareOfRead = work.bytes / median / limits.read
    relativeError = contender.error
  }

  /// The table row. It shows the shares of both limits: memory limits small batches, multiply-adds limit large ones.
  var line: String {
    "layer  \(shape) T=\(String(tokenCount).padded(5)) \(contender.padded(15)) "
      + "median \(fixed(medianMilliseconds, 3, width: 9)) ms  min \(fixed(minimumMilliseconds, 3, width: 9)) ms  "
      + "\(fixed(tokensPerSecond, 0, width: 7)) tokens/s  \(fixed(gigaflopsPerSecond, 1, width: 6)) GFLOP/s "
      + "(\(fixed(100 * shareOfFMA, 0))% of FMA)  \(fixed(gigabytesPerSecond, 1, width: 5)) GB/s "
      + "(\(fixed(100 * shareOfRead, 0))% of read)  error \(scientific(relativeError))"
  }
}

/// The time of each stage of a forward pass.
struct StageRow: Encodable {
  let tokenCount: Int
  let contender: String
  /// The median of each stage.
  let microseconds: [String: Double]

  init(tokenCount: Int, contender: String, medians: [Stage: Double]) {
    self.tokenCount = tokenCount
    self.contender = contender
    microseconds = Dictionary(uniqueKeysWithValues: medians.map { ($0.rawValue, $1 * 1e6) })
  }

  /// The table row, with each stage's share of the sum.
  var line: String {
    let total = microseconds.values.reduce(0, +)
    let shares = Stage.allCases.map { stage in
      "\(stage) \(fixed(100 * (microseconds[stage.rawValue] ?? .nan) / total, 1))%"
    }
    return "stages T=\(String(tokenCount).padded(5)) \(contender.padded(15)) "
      + "\(fixed(total * 1e-3, 3, width: 9)) ms: \(shares.joined(separator: ", "))"
  }
}
