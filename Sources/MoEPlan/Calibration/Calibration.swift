public import ExpertParallel
import Foundation
public import MoE
import MoECore

/// Measures what a ``Cluster`` says of a machine, or of the machines of a job.
public struct Calibration {
  /// The threads of one rank.
  public let execution: Execution
  /// What is being measured, for somebody who waits.
  public var report: (String) -> Void = { _ in }

  /// With the instruction set and threads that are planned for: all of this machine's, or those of one rank of a job.
  public init(execution: Execution) { self.execution = execution }

  /// D and F of the layers that the curve is measured on.
  package static let shapes = [(128, 256), (256, 512), (512, 512), (512, 1024)]
  /// Rows of an expert that it is measured at.
  static let rows = [8, 32, 128, 512]
  /// A machine's speed comes and goes, so everything is measured as often, in turn, and the median is taken.
  static let rounds = 3

  /// This machine as one host, whose ranks are threads of a process, one a thread here.
  ///
  /// 1. The curve: `MoELayer` with 8 experts of two a token, forward and backward, over rows and shapes.
  /// 2. Memory: copies by all threads.
  /// 3. What ranks add: `ExpertParallelLayer` on one rank, with experts so small that places and announcements of
  ///    choices take most of the time, for few and for many tokens.
  /// 4. α and β of ranks.
  ///
  /// - Throws: as the layers, and ``PlanError`` where a measured number cannot be.
  public func host() throws -> Cluster {
    let rates = try rates()
    let threads = execution.threadCount
    let links = try LocalCommunicator.run(ranks: max(threads, 2)) { try LinkMeasurement.measure(over: $0) }
    report("ranks: \(links[0])")
    return try Cluster(
      hostCount: 1, ranksPerHost: threads, coresPerHost: threads,
      memory: Double(ProcessInfo.processInfo.physicalMemory), link: links[0], intra: links[0], rates: rates)
  }

  /// The hosts of a job, as every one of its ranks sees them. A collective: all ranks compute at once, as they do in a
  /// step, and a host's rates are those of rank 0 times its ranks.
  ///
  /// - Throws: as ``host()``, `CommunicationError`, and ``PlanError`` for hosts with different numbers of ranks.
  public func cluster(over communicator: any Communicator) throws -> Cluster {
    let activity = "calibration"
    communicator.timeout = .seconds(600)
    let hosts = communicator.group.hosts
    let hostCount = hosts.max()! + 1
    let counts = (0..<hostCount).map { host in hosts.count { $0 == host } }
    try require(
      Set(counts).count == 1,
      "the hosts have \(counts.map(String.init).joined(separator: ", ")) ranks, expected as many on each")
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
      flops: curve.map { max($0.forward, $0.backward) }.max()!, memoryBandwidth: try memoryBandwidth(),
      curve: curve)
    report("memory: \(Format.bytes(rates.memoryBandwidth))/s")
    (rates.choiceSeconds, rates.passSeconds) = try dispatch()
    report("a choice: \(Format.seconds(rates.choiceSeconds)), a pass: \(Format.seconds(rates.passSeconds))")
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
        "D \(point.hiddenSize), F \(point.feedForwardSize), \(point.rows) rows an expert: forward "
          + "\(Format.digits(point.forward / 1e9)), backward \(Format.digits(point.backward / 1e9)) GFLOP/s")
      return point
    }
  }

  /// Bytes that all threads read and write in copies of memory that no cache holds.
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

  /// Seconds for a choice and for a pass that one rank takes beyond `MoELayer`.
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
  /// The rates of so many ranks together.
  fileprivate mutating func scale(by ranks: Double) {
    flops *= ranks
    memoryBandwidth *= ranks
    for index in curve.indices {
      curve[index].forward *= ranks
      curve[index].backward *= ranks
    }
  }
}
