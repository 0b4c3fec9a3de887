import Foundation
import Testing

/// Terminals: narrow ones, plain ones, and those that go away; and signals.
@Suite struct TerminalTests {
  /// The lines of progress that a terminal got, as wide as they were.
  private func progressLines(_ shown: String) -> [String] {
    shown.replacing("\r\u{1B}[K", with: "\n").replacing("\r\n", with: "\n").split(separator: "\n")
      .map(String.init).filter { $0.contains(/[0-9]+\/40( |$)/) }
  }

  @Test(arguments: [20, 21, 33, 60, 80, 200]) func progressFits(columns: Int) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let run = try moeOnTerminal(training.arguments("run"), in: folder, columns: columns)
      #expect(run.status == 0, "\(run)")
      let lines = progressLines(run.output)
      #expect(lines.count == 40)
      for line in lines { #expect(line.count < columns, "\(line)") }
      #expect(lines.allSatisfy { $0.contains("loss") })
    }
  }

  @Test(arguments: [["TERM": "dumb"], ["TERM": ""], [:], ["TERM": "xterm", "NO_COLOR": "1"]])
  func noEscapeSequences(environment: [String: String]) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let run = try moeOnTerminal(
        training.arguments("run"), in: folder, columns: 20, environment: environment)
      #expect(run.status == 0)
      #expect(!run.output.contains("\u{1B}"))
      let lines = progressLines(run.output)
      // Every fourth step, and those of the validations.
      #expect(lines.count == 12)
      for line in lines { #expect(line.count < 20, "\(line)") }
    }
  }

  @Test func terminalThatHangsUpCostsNoStep() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let settings = ["steps": "300", "save-every": "1000", "validate-every": "1000"]
      let run = try moeOnTerminal(
        training.arguments("run", settings: settings), in: folder, hangsUp: true)
      #expect(run.status == 0)
      expectSuccess(try training.train("usual", settings: settings))
      #expect(try training.bytes("run") == training.bytes("usual"))
      #expect(try training.metrics("run").count == 300)
    }
  }

  @Test func resultThatIsLostWithTheTerminalIsAFailure() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("run", settings: ["steps": "2"]))
      // “loss” is in the prompt, so the terminal hangs up at once.
      let run = try moeOnTerminal(
        ["generate", training.path("run"), "--prompt", "loss", "--bytes", "20000"], in: folder, hangsUp: true)
      #expect(run.status == 1)
    }
  }

  @Test func hangupSavesAsTerminationDoes() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      for (name, signal) in [("hangup", SIGHUP), ("terminate", SIGTERM), ("interrupt", SIGINT)] {
        let arguments = training.arguments(name, settings: ["steps": "20000", "save-every": "20000"])
        let status = try training.interrupt(arguments, with: signal) { training.recordedSteps(name) > 5 }
        #expect(status == 0, "\(name)")
        #expect(try training.bytes(name).count > 0)
        #expect(training.recordedSteps(name) > 5)
      }
    }
  }

  @Test func signalsThatWereIgnoredStayIgnored() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      for signal in ["HUP", "INT", "TERM"] {
        let words = training.arguments(signal).map { "'\($0)'" }.joined(separator: " ")
        let run = try shell(
          """
          trap '' \(signal)
          "$MOE" \(words) >/dev/null & pid=$!
          while [ ! -s \(signal)/metrics.jsonl ] && kill -0 $pid; do sleep 0.01; done
          kill -\(signal) $pid; wait $pid
          """, in: folder)
        #expect(run.status == 0, "\(run)")
        #expect(training.recordedSteps(signal) == 40)
      }
    }
  }

  @Test func secondInterruptEnds() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      // One step takes a second, so that both signals come within it.
      let settings = [
        "steps": "30", "batch": "256", "context": "128", "hidden": "128", "layers": "8", "ffn": "512",
      ]
      let process = Process()
      // The tests may run with SIGINT ignored, which a process inherits and `moe` respects.
      process.executableURL = URL(filePath: "/usr/bin/env")
      process.arguments =
        ["--default-signal=INT", try #require(executable).path]
        + training.arguments("run", settings: settings)
      process.standardOutput = FileHandle.nullDevice
      try process.run()
      while process.isRunning && training.recordedSteps("run") == 0 { usleep(1000) }
      // On a busy machine, a signal that comes before the one before it was delivered is lost.
      while process.isRunning {
        kill(process.processIdentifier, SIGINT)
        usleep(50_000)
      }
      process.waitUntilExit()
      #expect(process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGINT)
    }
  }

  @Test func namesAreEscaped() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let red = "a\u{1B}[31mb\nc"
      let named = training.path("text\u{1B}[2J.txt")
      try FileManager.default.copyItem(atPath: training.path("text.txt"), toPath: named)
      let name = "run\u{1B}[1m"
      let train = try moe(
        ["train", "--text", "\(red)=\(named)", "--out", training.path(name)] + TrainingRun.settings)
      expectSuccess(train)
      let report = try moe("report", training.path(name))
      let generated = try moe("generate", training.path(name), "--prompt", red, "--bytes", "30")
      let bad = [
        try moe("route", "x\u{1B}[1m", "--policy", "switch"), try moe("route", "x", "--policy", red),
        try moe("info", "--\u{1B}[31m"),
        try moe("apply", red, "--layer", "0", "--input", "x", "--output", "y"),
        try moe("generate", red), try moe("report", red), try moe("train", "--text", red, "--out", "none"),
      ]
      for run in bad { #expect(run.status != 0) }
      for run in [train, report, generated] + bad {
        for text in [run.output, run.errors] {
          #expect(!text.contains("\u{1B}"), "\(run)")
        }
      }
      #expect(generated.output.hasPrefix("a\\u{1B}[31mb\nc"))
      #expect(train.output.contains("a\\u{1B}[31mb\\nc"))
    }
  }
}
