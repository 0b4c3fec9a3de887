/// An operation under way.
///
/// It proceeds when this or any other request of the same rank is tested or waited for, and when
/// ``Communicator/poll()`` is called. The caller need not keep it: the rank holds it and its buffers until it has
/// completed.
public final class Request {
  /// A part of an operation: computes with the blocks of the exchange before it, and returns the next exchange, if any.
  typealias Stage = () -> Exchange?

  /// The kind of operation, such as "all-to-all".
  package let operation: String
  /// The caller's activity, such as "layer 3, forward".
  package let activity: String
  /// Whether the operation was found to have completed. Reading it makes no progress.
  public var isComplete: Bool { completion != nil }
  /// The time at which the operation was found to have completed.
  private(set) var completion: ContinuousClock.Instant?

  private let engine: ProgressEngine
  private let timeout: Duration
  private let start = ContinuousClock.now
  private var inFlight: (any ExchangeInFlight)?
  private var stages: [Stage]

  init(
    operation: String, during activity: String, timeout: Duration, engine: ProgressEngine, stages: [Stage]
  ) throws(CommunicationError) {
    self.operation = operation
    self.activity = activity
    self.timeout = timeout
    self.engine = engine
    self.stages = stages.reversed()
    try engine.add(self)
  }

  /// Makes progress.
  ///
  /// - Returns: whether the operation has completed.
  /// - Throws: `CommunicationError`, also if the communicator's timeout has passed since the request was made.
  package func test() throws(CommunicationError) -> Bool {
    if isComplete { return true }
    engine.progress()
    if isComplete { return true }
    if let failure = engine.failure { throw failure }
    if engine.transport.isEnding, ContinuousClock.now - start >= engine.grace { throw expire(after: nil) }
    if ContinuousClock.now - start > timeout { throw expire(after: timeout) }
    return false
  }

  /// Waits until the operation has completed.
  ///
  /// - Parameter timeout: the time to wait from now; nil for the communicator's timeout.
  /// - Throws: `CommunicationError`; `.deadline` if the time has passed.
  public func wait(timeout: Duration? = nil) throws(CommunicationError) {
    let timeout = timeout ?? self.timeout
    let begin = ContinuousClock.now
    defer { engine.waitingTime += ContinuousClock.now - begin }
    let deadline = begin + timeout
    while !isComplete {
      let mark = engine.transport.mark()
      engine.progress()
      if isComplete { return }
      if let failure = engine.failure { throw failure }
      if engine.transport.isEnding, ContinuousClock.now - begin >= engine.grace { throw expire(after: nil) }
      if ContinuousClock.now >= deadline { throw expire(after: timeout) }
      engine.transport.idle(since: mark, until: deadline)
    }
  }

  /// Waits until the operation has completed or failed. Every later operation of the rank throws the failure.
  func settle() {
    do { try wait() } catch { assert(engine.failure != nil) }
  }

  /// Returns the error of a wait that ends by its deadline, or because the job is being ended.
  private func expire(after timeout: Duration?) -> CommunicationError {
    let missing = inFlight?.missing ?? []
    let error: CommunicationError =
      if let timeout {
        .deadline(operation: operation, during: activity, after: timeout, missing: missing)
      } else {
        .jobEnded(operation: operation, during: activity, missing: missing)
      }
    engine.fail(error)
    return error
  }

  /// Moves through the stages as far as possible.
  ///
  /// - Returns: whether the last stage is done.
  func advance() throws(CommunicationError) -> Bool {
    do throws(TransportFault) {
      while true {
        if let inFlight, try !inFlight.test() { return false }
        inFlight = nil
        guard let stage = stages.popLast() else { break }
        if let exchange = stage() { inFlight = try engine.transport.start(exchange) }
      }
    } catch {
      throw name(error)
    }
    completion = .now
    return true
  }

  private func name(_ fault: TransportFault) -> CommunicationError {
    switch fault {
    case .mismatch(let rank, let message):
      .mismatch(operation: operation, during: activity, rank: rank, message)
    case .ended(let ranks, let reason):
      .rankEnded(operation: operation, during: activity, ranks: ranks, reason: reason)
    case .failed(let message): .transport(operation: operation, during: activity, message)
    }
  }
}
