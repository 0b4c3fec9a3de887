/// What is under way on one rank, in all groups it belongs to.
///
/// Operations of several exchanges proceed only when somebody looks, so whoever waits for one request moves all: two
/// ranks that wait for different requests first do not wait for each other.
final class ProgressEngine {
  let transport: any Transport
  private var pending: [Request] = []
  /// What every later operation throws.
  private(set) var failure: CommunicationError?
  /// How long operations still wait for other ranks when the job is being ended.
  var grace = Duration.zero
  /// How long this rank has waited for requests.
  var waitingTime = Duration.zero
  /// A number that no group of this rank has.
  var nextContext = 0

  init(transport: any Transport) { self.transport = transport }

  func add(_ request: Request) throws(CommunicationError) {
    if let failure { throw failure }
    pending.append(request)
    progress()
    if let failure { throw failure }
  }

  /// Moves all that is under way, in order of start; a failure is kept, for the next operation to throw.
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
    // Requests know the engine. What they leave under way, and its buffers, the transport keeps.
    pending = []
    transport.fail()
  }
}
