public import ExpertParallel
import Foundation
public import MoE
import MoECore
import MoEReport

/// Measures the ``Cluster`` that describes this machine, or the machines of an MPI job.
public struct Calibration {
  /// The threads of one rank.
  public let execution: Execution
  /// Receives a line about each measurement when it is done.
  public var report: (String) -> Void = { _ in }

  /// - Parameter execution: the instruction set and threads that are planned for: all threads of this machine, or
  ///   those of one rank of a job.
  public init(execution: Execution) { self.execution = execution }

  /// D and F of the layers that the curve is measured on.
  package static let shapes = [(128, 256), (256, 512), (512, 512), (512, 1024)]
  /// The rows of an expert at which the curve is measured.
  static let rows = [8, 32, 128, 512]
  /// The number of rounds. A machine's speed varies, so each round measures everything in turn, and medians are used.
  static let rounds = 3

  /// Measures this machine as one host with one rank per thread.
  ///
  /// 1. The curve: `MoELayer` with 8 experts, top-2, forward and backward, over numbers of rows and shapes.
  /// 2. Memory: copies by all threads.
  /// 3. The cost of being a rank: `ExpertParallelLayer` on one rank, for few and for many tokens. The experts are so
  ///    small that the order of rows and metadata take most of the time.
  /// 4. α and β between ranks.
  ///
  /// - Throws: the errors of the layers, and ``PlanError`` if a measured number is out of range.
  public func host() throws -> Cluster {
    let rates = try rates()
    let threads = execution.threadCount
    let links = try LocalCommunicator.run(ranks: max(threads, 2)) { try LinkMeasurement.measure(over: $0) }
    report("ranks: \(links[0])")
    return try Cluster(
      hostCount: 1, ranksPerHost: threads, coresPerHost: threads,
      memory: Double(ProcessInfo.processInfo.physicalMemory), link: links[0], intra: links[0], rates: rates)
  }

  /// Measures the hosts of a job; all ranks return equal descriptions. A collective: all ranks compute at once, as in
  /// a step. A host's rates are the rates of rank 0 times the ranks of the host.
  ///
  /// - Throws: the errors of ``host()``, `CommunicationError`, and ``PlanError`` if hosts have different numbers of
  ///   ranks.
  public func cluster(over communicator: any Communicator) throws -> Cluster {
    let activity = "calibration"
    communicator.timeout = .seconds(600)
    let hosts = communicator.group.hosts
    let hostCount = hosts.max()! + 1
    let counts = (0..<hostCount).map { host in hosts.count { $0 == host } }
    try require(
      Set(counts).count == 1,
      "the hosts have \(counts.map(String.init).joined(separator: ", ")) ranks, expected equal numbers")
    var rates = try rates()
    rates.scale(by: Double(counts[0]))
    let neighbours = try communicator.split(color: hosts[communicator.rank], during: activity)!
    let intra = try LinkMeasurement.measure(over: neighbours)
    var link = intra
    if hostCount > 1 {
      let firsts = try communicator.split(color: communicator.rankOnThisHost == 0 ? 0 : nil, during: activity)
      if let firsts { link = try LinkMeasurement.measure(over: firsts).crossing(hosts: hostCount) }
      let numbers = try communicator.broadcast([link.latency, link.bandwidth], root: 0, during: activity)
      link = Link(latency: numbers[0], bandwidth: numbers[1])
    }
    report("inside a host: \(intra)")
    report("between hosts: \(link)")
    return try Cluster(
      hostCount: hostCount, ranksPerHost: counts[0], coresPerHost: counts[0] * execution.threadCount,
      memory: Double(ProcessInfo.processInfo.physicalMemory), link: link, intra: intra, rates: rates)
  }

  private func rates() throws -> ComputeRates {
    let curve = try curve()
    var rates = ComputeRates(
      flops: curve.map { max($0.forward, $0.backward) }.max()!, memoryBandwidth: try memoryBandwidth())
    rates.curve = curve
    report("memory: \(formatted(bytes: rates.memoryBandwidth))/s")
    (rates.choiceSeconds, rates.passSeconds) = try dispatch()
    report(
      "per choice: \(formatted(seconds: rates.choiceSeconds)), per pass: \(formatted(seconds: rates.passSeconds))"
    )
    return rates
  }

  private func curve() throws -> [CurvePoint] {
    let problems = Self.shapes.flatMap { hidden, inner in
      Self.rows.map {
        LayerProblem(experts: 8, top: 2, hidden: hidden, inner: inner, tokens: 4 * $0, ranks: 1)
      }
    }
    let weights = try problems.map { try $0.weights(seed: 1) }
    let rounds = try (0..<Self.rounds).map { _ in
      try zip(problems, weights).map {
        try LayerMeasurement.single($0, weights: $1, execution: execution, seconds: 0.15)
      }
    }
    return problems.enumerated().map { index, problem in
      let time = LayerMeasurement.median(rounds.map { $0[index] })
      let point = CurvePoint(
        hiddenSize: problem.hiddenSize, feedForwardSize: problem.feedForwardSize,
        rows: problem.tokenCount / 4,
        forward: problem.operations / time.forward, backward: 2 * problem.operations / time.backward)
      report(
        "D \(point.hiddenSize), F \(point.feedForwardSize), \(point.rows) rows per expert: forward "
          + "\(short(point.forward / 1e9)), backward \(short(point.backward / 1e9)) GFLOP/s")
      return point
    }
  }

  /// Measures the bytes per second that all threads read and write while they copy memory larger than the caches.
  private func memoryBandwidth() throws -> Double {
    let (threads, bytes) = (execution.threadCount, 64 << 20)
    let times = try LocalCommunicator.run(ranks: threads) { communicator in
      let (source, target) = (MessageBuffer(byteCount: bytes), MessageBuffer(byteCount: bytes))
      try communicator.barrier(during: "calibration")
      return Stopwatch.median(seconds: 0.5) {
        unsafe source.withUnsafeMutableBytes { from in
          unsafe target.withUnsafeMutableBytes { to in
            unsafe to.copyMemory(from: UnsafeRawBufferPointer(from))
          }
        }
      }
    }
    return Double(2 * bytes * threads) / times.max()!
  }

  /// Measures the seconds per choice and per pass that one rank of `ExpertParallelLayer` takes beyond `MoELayer`.
  private func dispatch() throws -> (choice: Double, pass: Double) {
    let execution = execution
    func extra(_ tokens: Int) throws -> Double {
      let problem = LayerProblem(experts: 8, top: 4, hidden: 32, inner: 32, tokens: tokens, ranks: 1)
      let weights = try problem.weights(seed: 1)
      let rounds = try (0..<Self.rounds).map { _ in
        let alone = try LayerMeasurement.single(
          problem, weights: weights, execution: execution, seconds: 0.15)
        let spread = try LocalCommunicator.run(ranks: 1) {
          try LayerMeasurement.spread(problem, weights: weights, over: $0, execution: execution, steps: 30)
        }[0]
        return spread.step - alone.step
      }
      return Stopwatch.median(rounds)
    }
    let (few, many) = (try extra(64), try extra(4096))
    let choice = max(many - few, 0) / Double(4 * (4096 - 64))
    return (choice, max(few - choice * 256, 0) / 2)
  }
}

extension ComputeRates {
  /// Multiplies the rates of one rank by a number of ranks.
  fileprivate mutating func scale(by ranks: Double) {
    flops *= ranks
    memoryBandwidth *= ranks
    for index in curve.indices {
      curve[index].forward *= ranks
      curve[index].backward *= ranks
    }
  }
}
