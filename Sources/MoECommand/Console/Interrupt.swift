import Dispatch
import Glibc
import Synchronization

/// Whether someone asked the process to end: the first time is a request, the second is up to the system.
final class Interrupt {
  private final class Request: Sendable { let isMade = Atomic(false) }

  private let request = Request()
  private let sources: [any DispatchSourceSignal]

  /// Listens for signals.
  init(_ signals: [Int32] = [SIGINT, SIGTERM]) {
    let request = request
    sources = signals.map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler {
        request.isMade.store(true, ordering: .relaxed)
        signal(number, SIG_DFL)
      }
      source.resume()
      return source
    }
  }

  /// Whether it happened.
  var isRequested: Bool { request.isMade.load(ordering: .relaxed) }
}
