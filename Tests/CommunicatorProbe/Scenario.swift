import ExpertParallel
import Glibc
import LayerCases
import MoE
import MoECore

/// The way in which the last rank fails.
enum Scenario: String, CaseIterable {
  /// It computes for longer than the others wait.
  case late
  /// The script kills it.
  case killed
  /// The script cuts its link.
  case cut
  /// It sends less than the others expect.
  case less
  /// It sends more than the others expect.
  case more
}

/// The operation that the ranks repeat until it fails.
enum Subject: String, CaseIterable {
  /// An all-to-all, with the number of the repetition as its activity.
  case exchange
  /// The forward pass of a layer.
  case layer
}

/// Repeats a subject that the last rank spoils.
///
/// In the folder are the process of the last rank as `pid`, `started` once the subject has been repeated a few times,
/// and what each of the others reports as `rank-N`. They end the job with exit code 3 when all of them have reported.
/// Nothing waits for a time but for the deadline.
struct Failure {
  let scenario: Scenario
  let subject: Subject
  let folder: String
  private static let deadline = Duration.seconds(4)
  private static let stepsBefore = 10

  func run(_ communicator: any Communicator) throws -> [String] {
    let (rank, last) = (communicator.rank, communicator.size - 1)
    if rank == last { leave("pid", "\(getpid())") }
    let step = try makeStep(communicator)
    try communicator.barrier(during: "start")
    communicator.timeout = Self.deadline
    let start = ContinuousClock.now
    do {
      for number in 0..<1_000_000 {
        if number == Self.stepsBefore {
          if rank == 0 { leave("started", "") }
          if rank == last, scenario == .late { awaitReports(from: 0..<last) }
        }
        try step(number)
      }
      leave("rank-\(rank)", "no error")
    } catch {
      let time = (ContinuousClock.now - start).components.seconds
      leave("rank-\(rank)", "\(error), \(time) s after the start")
    }
    awaitReports(from: 0..<last)
    communicator.abort(code: 3, after: .zero)
  }

  private func makeStep(_ communicator: any Communicator) throws -> (Int) throws -> Void {
    switch subject {
    case .exchange: { try exchange($0, communicator) }
    case .layer: try layerStep(communicator)
    }
  }

  private func exchange(_ number: Int, _ communicator: any Communicator) throws {
    let (rank, size) = (communicator.rank, communicator.size)
    let bytes = 1 << 20
    var sent = [Int](repeating: bytes, count: size)
    if rank == size - 1, number == Self.stepsBefore {
      for other in 0..<rank { sent[other] += scenario == .less ? -16 : scenario == .more ? 16 : 0 }
    }
    try communicator.startAllToAll(
      from: MessageBuffer(byteCount: 2 * size * bytes), BlockLayout(rows: sent, bytesPerRow: 1),
      into: MessageBuffer(byteCount: size * bytes),
      BlockLayout(rows: [Int](repeating: bytes, count: size), bytesPerRow: 1), during: "step \(number)"
    ).wait()
  }

  private func layerStep(_ communicator: any Communicator) throws -> (Int) throws -> Void {
    let problem = try LayerCase(
      seed: 1, tokenCount: 1, expertCount: 8, expertsPerToken: 2, hiddenSize: 512, feedForwardSize: 64
    ).problem()
    let execution = try Execution(threadCount: 1)
    let layer = try ExpertParallelLayer(
      problem.configuration, weights: problem.weights, over: communicator, execution: execution)
    let input = Activations.random([256, 512], seed: UInt64(communicator.rank))
    return { _ in _ = try layer(input, execution: execution) }
  }

  /// Writes a file that nobody sees before it is whole.
  private func leave(_ name: String, _ text: String) {
    guard let file = unsafe fopen("\(folder)/.\(name)", "w") else { fail("cannot write to \(folder)") }
    unsafe fputs(text + "\n", file)
    unsafe fclose(file)
    unsafe rename("\(folder)/.\(name)", "\(folder)/\(name)")
  }

  private func awaitReports(from ranks: Range<Int>) {
    while !ranks.allSatisfy({ unsafe access("\(folder)/rank-\($0)", F_OK) == 0 }) { usleep(10_000) }
  }
}
