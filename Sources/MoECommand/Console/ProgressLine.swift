import Glibc

/// A line on the standard error that changes in place, where the standard error is a terminal that can do that.
///
/// No escape sequence is written where the standard error is no terminal, where `TERM` is `dumb`, empty or unset, or where
/// `NO_COLOR` is set.
struct ProgressLine {
  /// Whether the line is shown.
  let isShown: Bool

  init(environment: (String) -> String? = environmentValue) {
    let terminal = environment("TERM") ?? ""
    isShown =
      StandardStream.errors.isTerminal && !terminal.isEmpty && terminal != "dumb"
      && (environment("NO_COLOR") ?? "").isEmpty
  }

  /// Shows as many of `parts` as fit the terminal now, the first of them cut where it does not fit.
  ///
  /// - Parameter bar: a part that is put in front, for the columns that the others leave.
  func show(_ parts: [String], bar: (Int) -> String = { _ in "" }) {
    if !isShown { return }
    let width = columns(of: StandardStream.errors)
    let text = fitting(parts, into: width)
    StandardStream.errors.replaceLine(with: bar(width - text.count) + text)
  }

  /// Removes the line.
  func clear() {
    if isShown { StandardStream.errors.replaceLine(with: "") }
  }
}

/// The first parts that fit `width` columns, two spaces apart; the very first is cut where it does not fit.
func fitting(_ parts: [String], into width: Int) -> String {
  var text = String((parts.first ?? "").prefix(width))
  for part in parts.dropFirst() where text.count + 2 + part.count <= width { text += "  " + part }
  return text
}

/// The columns of the terminal that a stream is, less one for the cursor; no limit where it is no terminal.
///
/// The size is read at each call, because a window may be resized at any moment.
func columns(of stream: StandardStream) -> Int {
  guard stream.isTerminal else { return .max }
  var size = winsize()
  let descriptor = stream === StandardStream.output ? STDOUT_FILENO : STDERR_FILENO
  guard unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 79 }
  return max(Int(size.ws_col) - 1, 1)
}

/// The value of a variable of the environment.
func environmentValue(_ name: String) -> String? { unsafe getenv(name).map { unsafe String(cString: $0) } }
