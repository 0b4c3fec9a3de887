import Glibc
import Synchronization

/// Whether a signal asked the process to end.
private let isEndRequested = Atomic(false)

/// Listens for the signals by which the process is asked to end.
///
/// - A signal that the process was started to ignore stays ignored: `nohup` and a shell's `disown` ask for that.
/// - The second SIGINT or SIGTERM ends the process at once. A second SIGHUP does not: when a terminal closes, the shell
///   sends one and the kernel another, within a moment.
struct Interrupt {
  /// Installs handlers for `signals`.
  init(_ signals: [Int32] = [SIGINT, SIGTERM, SIGHUP]) {
    // The handler must find the flag initialised.
    _ = isEndRequested.load(ordering: .relaxed)
    for number in signals {
      var action = sigaction()
      guard unsafe sigaction(number, nil, &action) == 0, !Self.ignores(action) else { continue }
      action = sigaction()
      unsafe action.__sigaction_handler.sa_handler = { _ in isEndRequested.store(true, ordering: .relaxed) }
      // SA_RESETHAND restores the default, which ends the process, with the first delivery.
      action.sa_flags = SA_RESTART | (number == SIGHUP ? 0 : Int32(bitPattern: UInt32(SA_RESETHAND)))
      _ = unsafe sigaction(number, &action, nil)
    }
  }

  /// Whether a signal came.
  var isRequested: Bool { isEndRequested.load(ordering: .relaxed) }

  private static func ignores(_ action: sigaction) -> Bool {
    unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
  }
}
