import Glibc
import Synchronization

/// A standard stream of the process. All that the command says goes through the two of them.
///
/// Nothing here traps. A write that is interrupted or cut short goes on; a pipe that is full and does not block is
/// waited for.
/// - Standard output: the first error is kept, what follows is dropped, and ``flush()`` throws the error, so that no
///   command succeeds although its output was lost. A closed pipe ends the process by SIGPIPE, as it ends others.
/// - Standard error: an error costs the line and nothing else, a closed pipe included.
final class StandardStream: Sendable {
  /// The standard output: tables, JSON, generated text. Lines reach a pipe or a file at ``flush()`` at the latest.
  static let output = StandardStream(STDOUT_FILENO)
  /// The standard error: errors, notes and progress, each written at once.
  static let errors = StandardStream(STDERR_FILENO)

  /// Whether the stream was a terminal when the process started; one that has hung up no longer says so.
  let isTerminal: Bool
  private let descriptor: Int32
  private let state = Mutex(State())

  private struct State {
    var pending: [UInt8] = []
    /// The first error, by its number.
    var failure: Int32?
    /// Whether a text was written that exists nowhere else.
    var holdsResult = false
  }

  /// Bytes that wait for the next write to a pipe or a file.
  private static let capacity = 1 << 16

  private init(_ descriptor: Int32) {
    self.descriptor = descriptor
    isTerminal = isatty(descriptor) == 1
  }

  /// Makes the streams ready, before the first file is opened.
  ///
  /// Files that are opened take the lowest descriptors that are free. A process that was started with a standard
  /// stream closed would therefore write its messages into the first files that it opens. Each closed stream gets
  /// `/dev/null`, opened in the direction that it is not used in, so that writing still fails.
  ///
  /// A file that grows beyond the limit of `ulimit -f` becomes an error, too, where the system would end the process.
  static func prepare() {
    for (descriptor, direction) in [
      (STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY),
    ]
    where fcntl(descriptor, F_GETFD) < 0 && errno == EBADF {
      _ = unsafe open("/dev/null", direction)
    }
    signal(SIGXFSZ, SIG_IGN)
    _ = (output, errors)
  }

  /// The stream for remarks about a file that was written: the standard output, but the standard error where the file
  /// is the standard output itself, whose bytes a remark would spoil.
  static func besides(_ path: String) -> StandardStream { output.isSame(as: path) ? errors : output }

  /// Whether `path` leads to what this stream writes to, and that is no device that takes anything, as `/dev/null` is.
  func isSame(as path: String) -> Bool {
    var (own, other) = (stat(), stat())
    guard unsafe fstat(descriptor, &own) == 0, unsafe stat(path, &other) == 0 else { return false }
    let isDevice = own.st_mode & S_IFMT == S_IFCHR && !isTerminal
    return !isDevice && own.st_dev == other.st_dev && own.st_ino == other.st_ino
  }

  // MARK: Text

  /// Writes a line that is the command's result. Control characters in it, line breaks included, are escaped.
  func line(_ text: String = "") { write(Array((printable(text) + "\n").utf8), isResult: true) }

  /// Writes a line about a result that is in a file. If the terminal has hung up, the line is lost and the command
  /// still succeeds. Control characters are escaped.
  func remark(_ text: String) { write(Array((printable(text) + "\n").utf8), isResult: false) }

  /// Writes a text that is the command's result. Control characters are escaped, but for line breaks and tabs, and for
  /// carriage returns where no terminal would act on them.
  func text(_ text: String) {
    write(Array(printable(text, except: isTerminal ? "\n\t" : "\n\t\r").utf8), isResult: true)
  }

  /// Writes one JSON object, and a line break. Control characters that JSON allows are escaped as JSON escapes them.
  func json(_ bytes: some Collection<UInt8>) {
    write(Array((escapedJSON(String(decoding: bytes, as: UTF8.self)) + "\n").utf8), isResult: true)
  }

  /// Puts `text` in place of the line that the cursor is in, on a terminal that knows how.
  func replaceLine(with text: String) { write(Array("\r\u{1B}[K\(printable(text))".utf8), isResult: false) }

  // MARK: Bytes

  private func write(_ bytes: [UInt8], isResult: Bool) {
    state.withLock { state in
      if isResult { state.holdsResult = true }
      if state.failure != nil { return }
      state.pending += bytes
      let isDue = descriptor == STDERR_FILENO || isTerminal || state.pending.count >= Self.capacity
      if isDue { drain(&state) }
    }
  }

  /// Writes what is pending. An error is kept for ``flush()``.
  func push() { state.withLock { drain(&$0) } }

  /// Writes what is pending.
  ///
  /// - Throws: ``OutputError`` where something was lost since the process started.
  func flush() throws(OutputError) {
    let failure = state.withLock { state in
      drain(&state)
      return state.failure
    }
    if let failure { throw OutputError(number: failure) }
  }

  private func drain(_ state: inout State) {
    var start = 0
    while start < state.pending.count {
      let (count, number) = writeOnce(state.pending[start...])
      if count > 0 {
        start += count
      } else if number == EAGAIN || number == EWOULDBLOCK {
        waitForRoom()
      } else if number != EINTR {
        let isLostTerminal = number == EIO && isTerminal && !state.holdsResult
        if descriptor == STDOUT_FILENO, !isLostTerminal { state.failure = number }
        break
      }
    }
    state.pending.removeAll(keepingCapacity: true)
  }

  /// Writes some of `bytes`; returns how many, and the error's number where there are none.
  private func writeOnce(_ bytes: ArraySlice<UInt8>) -> (count: Int, number: Int32) {
    func write() -> (Int, Int32) {
      let count = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress!, $0.count) }
      return (count, count > 0 ? 0 : count == 0 ? EINTR : errno)
    }
    return descriptor == STDERR_FILENO ? Self.withoutBrokenPipeSignal(write) : write()
  }

  /// Waits until the other end has read something, or has gone.
  private func waitForRoom() {
    var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    _ = unsafe poll(&request, 1, -1)
  }

  /// Calls `body`, whose writes to a closed pipe are errors and no signals.
  private static func withoutBrokenPipeSignal(_ body: () -> (Int, Int32)) -> (Int, Int32) {
    var (pipe, before) = (sigset_t(), sigset_t())
    unsafe sigemptyset(&pipe)
    unsafe sigaddset(&pipe, SIGPIPE)
    unsafe pthread_sigmask(SIG_BLOCK, &pipe, &before)
    let result = body()
    if result.1 == EPIPE {
      // The signal is pending on this thread, and would be delivered with the mask of before.
      var now = timespec()
      while unsafe sigtimedwait(&pipe, nil, &now) < 0, errno == EINTR {}
    }
    unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    return result
  }
}

/// The standard output cannot be written.
struct OutputError: Error, CustomStringConvertible {
  /// The error's number in the system.
  let number: Int32

  /// Whether the reader of the output has closed its pipe; the command then ends without a sentence.
  var isClosedPipe: Bool { number == EPIPE }

  /// One plain sentence without a full stop.
  var description: String {
    "the standard output cannot be written: "
      + (number == EBADF ? "it is closed" : unsafe String(cString: strerror(number)))
  }
}
