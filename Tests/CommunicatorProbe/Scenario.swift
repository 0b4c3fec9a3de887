import ExpertParallel
import Glibc

/// A failure of the last rank, as the others must see it.
enum Scenario: String, CaseIterable {
  /// It computes for longer than the others wait.
  case late
  /// It is killed while an exchange is under way.
  case killed
  /// It sends less than the others expect.
  case less
  /// It sends more than the others expect.
  case more
}

/// Runs an exchange that the last rank spoils. The others print the error and the time it took, in seconds, and exit
/// with code 3.
func runScenario(_ scenario: Scenario) {
  #if MPI
    do {
      let communicator = try MPICommunicator.world()
      communicator.timeout = .seconds(20)
      try communicator.barrier(step: "start")
      communicator.timeout = .seconds(2)
      let start = ContinuousClock.now
      do {
        try spoil(scenario, communicator)
        report("rank \(communicator.rank): no error", to: .output)
      } catch {
        let seconds = (ContinuousClock.now - start).components.seconds
        report("rank \(communicator.rank): \(error) [\(seconds) s]", to: .output)
        communicator.abort(code: 3, after: .seconds(2))
      }
    } catch {
      report("\(error)", to: .error)
      exitProcess(1)
    }
  #else
    fail("built without the package trait MPI")
  #endif
}

private func spoil(_ scenario: Scenario, _ communicator: any Communicator) throws {
  let (size, isLast) = (communicator.size, communicator.rank == communicator.size - 1)
  let bytes = 1 << 20
  func rows(_ count: Int) -> Blocks { Blocks(rows: [Int](repeating: count, count: size), bytesPerRow: 1) }
  func exchange(_ sent: Blocks, _ received: Blocks, step: String) throws -> Request {
    try communicator.startAllToAll(
      from: MessageBuffer(byteCount: 2 * size * bytes), sent, into: MessageBuffer(byteCount: size * bytes),
      received,
      step: step)
  }
  switch scenario {
  case .late:
    if isLast { sleep(6) }
    try exchange(rows(bytes), rows(bytes), step: "layer 3, forward").wait()
  case .killed:
    for step in 0..<1000 {
      let request = try exchange(rows(bytes), rows(bytes), step: "step \(step)")
      if isLast, step == 5 { kill(getpid(), SIGKILL) }
      try request.wait()
    }
  case .less, .more:
    let spoiled = scenario == .less ? bytes - 16 : bytes + 16
    let sent = (0..<size).map { isLast && $0 != communicator.rank ? spoiled : bytes }
    try exchange(Blocks(rows: sent, bytesPerRow: 1), rows(bytes), step: "uneven").wait()
    // Those who got what they expected miss the others in the next step.
    try exchange(rows(bytes), rows(bytes), step: "after it").wait()
  }
}
