import Dispatch
import Glibc
import Synchronization

/// Whether the process was asked to end by a signal.
///
/// - A signal that the process was started to ignore stays ignored: `nohup` and a shell's `disown` ask for that.
/// - The second SIGINT or SIGTERM ends the process at once. A second SIGHUP does not: a terminal that closes sends one by
///   the shell and another by the kernel, within a moment.
final class Interrupt {
  private final class Request: Sendable { let isMade = Atomic(false) }

  private let request = Request()
  private let sources: [any DispatchSourceSignal]

  /// Listens for signals.
  init(_ signals: [Int32] = [SIGINT, SIGTERM, SIGHUP]) {
    let request = request
    sources = signals.filter { !Self.isIgnored($0) }.map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler {
        request.isMade.store(true, ordering: .relaxed)
        if number != SIGHUP { signal(number, SIG_DFL) }
      }
      source.resume()
      return source
    }
  }

  /// Whether a signal came.
  var isRequested: Bool { request.isMade.load(ordering: .relaxed) }

  private static func isIgnored(_ number: Int32) -> Bool {
    var action = sigaction()
    guard unsafe sigaction(number, nil, &action) == 0 else { return false }
    return unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
  }
}
