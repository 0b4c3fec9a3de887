import ExpertParallel
import Foundation
public import MoE
import MoECore

/// Measures what a ``Cluster`` says of this machine.
public struct Calibration {
  /// Threads in all, which local ranks divide.
  public let execution: Execution
  /// What is being measured, for somebody who waits.
  public var report: (String) -> Void = { _ in }

  /// With the instruction set and threads that are planned for.
  public init(execution: Execution) { self.execution = execution }

  /// D and F of the layers that the curve is measured on.
  static let shapes = [(128, 256), (256, 512), (512, 512), (512, 1024)]
  /// Rows of an expert that it is measured at.
  static let rows = [8, 32, 128, 512]

  /// One host of as many ranks as threads.
  ///
  /// 1. The curve: `MoELayer` with 8 experts of two a token, forward and backward, over rows and shapes.
  /// 2. Memory: copies by all threads.
  /// 3. What ranks add: `ExpertParallelLayer` on one rank, with experts so small that places and announcements of choices
  ///    take most of the time, for few and for many tokens.
  /// 4. α and β of ranks as threads of this process.
  ///
  /// - Throws: as the layers, and ``PlanError`` where a measured number cannot be.
  public func host() throws -> Cluster {
    var rates = ComputeRates(flops: 1)
    rates.memoryBandwidth = try memoryBandwidth()
    report("memory \(Format.bytes(rates.memoryBandwidth))/s")
    rates.curve = try curve()
    rates.flops = rates.curve.map { max($0.forward, $0.backward) }.max()!
    (rates.choiceSeconds, rates.passSeconds) = try dispatch(rates)
    report(
      "a choice \(Format.seconds(rates.choiceSeconds)), a pass \(Format.seconds(rates.passSeconds))")
    let threads = execution.threadCount
    let links = try LocalCommunicator.run(ranks: max(threads, 2)) { communicator in
      let link = try LinkMeasurement.measure(over: communicator, bytesPerRank: 8 << 20, repetitions: 10)
      return Link(latency: link.latency, bandwidth: link.bandwidth)
    }
    report("local ranks: α \(Format.seconds(links[0].latency)), β \(Format.bytes(links[0].bandwidth))/s")
    return try Cluster(
      hostCount: 1, ranksPerHost: threads, coresPerHost: threads,
      memory: Double(ProcessInfo.processInfo.physicalMemory), link: links[0], intra: links[0], rates: rates)
  }

  private func curve() throws -> [CurvePoint] {
    var points: [CurvePoint] = []
    for (hidden, inner) in Self.shapes {
      for rows in Self.rows {
        let problem = LayerProblem(
          experts: 8, top: 2, hidden: hidden, inner: inner, tokens: rows * 4, ranks: 1)
        let time = try LayerMeasurement.single(problem, execution: execution, seconds: 0.4)
        points.append(
          CurvePoint(
            hiddenSize: hidden, feedForwardSize: inner, rows: rows, forward: problem.operations / time.forward,
            backward: 2 * problem.operations / time.backward))
        report(
          "D \(hidden), F \(inner), \(rows) rows: forward \(Format.digits(points.last!.forward / 1e9)), backward "
            + "\(Format.digits(points.last!.backward / 1e9)) GFLOP/s")
      }
    }
    return points
  }

  /// Bytes that all threads read and write in copies of memory that no cache holds.
  private func memoryBandwidth() throws -> Double {
    let (threads, bytes) = (execution.threadCount, 64 << 20)
    let times = try LocalCommunicator.run(ranks: threads) { communicator in
      let (source, target) = (MessageBuffer(byteCount: bytes), MessageBuffer(byteCount: bytes))
      try communicator.barrier(step: "calibration")
      return Stopwatch.median(seconds: 0.3) {
        unsafe source.withUnsafeMutableBytes { from in
          unsafe target.withUnsafeMutableBytes { to in unsafe to.copyMemory(from: UnsafeRawBufferPointer(from)) }
        }
      }
    }
    return Double(2 * bytes * threads) / times.max()!
  }

  /// Seconds for a choice and for a pass that one rank takes beyond `MoELayer`.
  private func dispatch(_ rates: ComputeRates) throws -> (choice: Double, pass: Double) {
    func extra(_ tokens: Int) throws -> Double {
      let problem = LayerProblem(experts: 8, top: 4, hidden: 32, inner: 32, tokens: tokens, ranks: 1)
      let alone = try LayerMeasurement.single(problem, execution: execution, seconds: 0.4)
      let execution = execution
      let spread = try LocalCommunicator.run(ranks: 1) {
        try LayerMeasurement.spread(problem, over: $0, execution: execution, steps: 40)
      }[0]
      return spread.step - alone.step
    }
    let (few, many) = (try extra(64), try extra(4096))
    let choice = max(many - few, 0) / Double(4 * (4096 - 64))
    return (choice, max(few - choice * 256, 0) / 2)
  }
}
