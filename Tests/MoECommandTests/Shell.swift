import Foundation
import Testing

/// The status and the output of a command in a shell.
struct ShellRun {
  var status: Int32
  var output: String
  var errors: String
}

/// Runs a script by bash, in `folder`, where `$MOE` is the command and `$FIXTURES` the checkpoints: for redirections,
/// pipes and limits that a process cannot be given otherwise. It must end within two minutes.
func shell(
  _ script: String, in folder: URL, environment: [String: String] = [:]
) throws -> ShellRun {
  let process = Process()
  process.executableURL = URL(filePath: "/bin/bash")
  process.arguments = ["-c", "set -u\n" + script]
  process.currentDirectoryURL = folder
  process.environment = ProcessInfo.processInfo.environment
    .filter { !["MOE_ISA", "OMP_NUM_THREADS", "NO_COLOR"].contains($0.key) }
    .merging(["MOE": (try #require(executable) as URL).path, "FIXTURES": fixtures.path]) { _, new in new }
    .merging(environment) { _, new in new }
  process.standardInput = FileHandle.nullDevice
  // Files rather than pipes: a pipe would have to be read meanwhile.
  let names = ["output", "errors"].map {
    FileManager.default.temporaryDirectory.appending(path: "moe-\($0)-\(UUID())")
  }
  for name in names { _ = FileManager.default.createFile(atPath: name.path, contents: nil) }
  defer { for name in names { try? FileManager.default.removeItem(at: name) } }
  process.standardOutput = try FileHandle(forWritingTo: names[0])
  process.standardError = try FileHandle(forWritingTo: names[1])
  let hasEnded = DispatchSemaphore(value: 0)
  process.terminationHandler = { _ in hasEnded.signal() }
  try process.run()
  if hasEnded.wait(timeout: .now() + 120) == .timedOut {
    kill(process.processIdentifier, SIGKILL)
    Issue.record("the script did not end within two minutes: \(script)")
    process.waitUntilExit()
  }
  let texts = try names.map { String(decoding: try Data(contentsOf: $0), as: UTF8.self) }
  return ShellRun(status: process.terminationStatus, output: texts[0], errors: texts[1])
}

/// Runs `moe` with a terminal as standard output and standard error, by Python's `pty`.
///
/// - Parameters:
///   - columns: the width of the terminal.
///   - hangsUp: whether the terminal goes away once a step was shown, with SIGHUP ignored as `nohup` does it.
/// - Returns: the status, and all that the terminal got.
func moeOnTerminal(
  _ arguments: [String], in folder: URL, columns: Int = 80, environment: [String: String] = ["TERM": "xterm"],
  hangsUp: Bool = false
) throws -> ShellRun {
  let program = """
    import fcntl, os, pty, signal, struct, sys, termios, time
    columns, hangs_up, command = int(sys.argv[1]), sys.argv[2] == "1", sys.argv[3:]
    pid, terminal = pty.fork()
    if pid == 0:
        if hangs_up: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.execvp(command[0], command)
    shown = b""
    while not (hangs_up and b"loss" in shown):
        try: piece = os.read(terminal, 65536)
        except OSError: break
        if not piece: break
        shown += piece
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.stdout.buffer.write(shown)
    sys.stdout.flush()
    os._exit(status if status >= 0 else 128 - status)
    """
  try Data(program.utf8).write(to: folder.appending(path: "terminal.py"))
  let words = arguments.map { "'\($0.replacing("'", with: "'\\''"))'" }.joined(separator: " ")
  let unset = environment["TERM"] == nil ? "unset TERM; " : ""
  return try shell(
    "\(unset)python3 terminal.py \(columns) \(hangsUp ? 1 : 0) \"$MOE\" \(words)", in: folder,
    environment: environment)
}
