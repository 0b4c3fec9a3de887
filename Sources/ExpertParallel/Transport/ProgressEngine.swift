/// The requests under way on one rank, in all groups it belongs to.
///
/// An operation of several exchanges proceeds only when it is tested. So a wait for one request moves all requests of
/// the rank; otherwise two ranks that wait for different requests first would wait for each other.
final class ProgressEngine {
  let transport: any Transport
  private var pending: [Request] = []
  /// The first failure, which every later operation throws too.
  private(set) var failure: CommunicationError?
  /// The time that operations still wait for other ranks while the job is being ended.
  var grace = Duration.zero
  /// The time that this rank has waited for requests.
  var waitingTime = Duration.zero
  /// A number that no group of this rank has yet.
  var nextContext = 0

  init(transport: any Transport) { self.transport = transport }

  func add(_ request: Request) throws(CommunicationError) {
    if let failure { throw failure }
    pending.append(request)
    progress()
    if let failure { throw failure }
  }

  /// Moves all requests, in the order in which they were started. A failure is kept for the next operation to throw.
  func progress() {
    guard failure == nil else { return }
    do {
      var index = 0
      while index < pending.count {
        if try pending[index].advance() { pending.remove(at: index) } else { index += 1 }
      }
    } catch {
      fail(error)
    }
  }

  func fail(_ error: CommunicationError) {
    guard failure == nil else { return }
    failure = error
    // Requests retain the engine, so they are released. The transport keeps their messages under way and the buffers.
    pending = []
    transport.fail()
  }
}
