import Foundation
import Testing

/// Standard streams that fail: nothing traps, and no output is lost with exit code 0.
@Suite struct StreamTests {
  /// Commands that write to the standard output, in a folder with a run and activations.
  static let commands = [
    "--help", "--version", "help route", "train --help", "train --generate-completion-script bash", "info",
    "info --json", "route --list", "route l.safetensors --policy switch", "check --isa scalar",
    "plan --experts 8 --hidden 64 --ffn 64", "plan --experts 8 --hidden 64 --ffn 64 --json", "report run",
    "generate run --bytes 20",
    "apply $FIXTURES/qwen3_moe --layer 0 --input x.safetensors --output y.safetensors",
    "train --resume --out run",
  ]

  /// A folder with what the commands read.
  private func withScene(_ body: (URL, TrainingRun) throws -> Void) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("run", settings: ["steps": "2"]))
      try Data(safetensors(["logits": Tensor(4, 8)])).write(to: folder.appending(path: "l.safetensors"))
      try Data(safetensors(["x": Tensor(2, 12)])).write(to: folder.appending(path: "x.safetensors"))
      try body(folder, training)
    }
  }

  @Test func outputThatCannotBeWrittenIsAnError() throws {
    try withScene { folder, _ in
      for command in Self.commands {
        for (place, reason) in [(">/dev/full", "No space left on device"), (">&-", "it is closed")] {
          let run = try shell("exec \"$MOE\" \(command) \(place)", in: folder)
          #expect(run.status == 1, "\(command) \(place)")
          #expect(
            run.errors == "Error: the standard output cannot be written: \(reason)\n", "\(command) \(place)")
        }
      }
    }
  }

  @Test func closedPipeEndsQuietly() throws {
    try withScene { folder, _ in
      for command in Self.commands {
        // The reader has gone before the command starts.
        let pipe = "exec 3> >(exec true); wait $!; "
        let usual = try shell(pipe + "\"$MOE\" \(command) >&3; echo $?", in: folder)
        #expect(usual.output == "141\n" && usual.errors.isEmpty, "\(command): \(usual)")
        let ignored = try shell("trap '' PIPE; " + pipe + "\"$MOE\" \(command) >&3; echo $?", in: folder)
        #expect(ignored.output == "1\n" && ignored.errors.isEmpty, "\(command): \(ignored)")
      }
    }
  }

  @Test func errorsThatCannotBeWrittenCostNothing() throws {
    try withScene { folder, _ in
      for place in ["2>/dev/full", "2>&-", "2> >(exec true)"] {
        let good = try shell("sleep 0.1; \"$MOE\" info \(place)", in: folder)
        #expect(good.status == 0 && good.output.hasPrefix("version"), "\(place)")
        #expect(try shell("exec \"$MOE\" info --bogus \(place)", in: folder).status == 64, "\(place)")
        #expect(try shell("exec \"$MOE\" generate none \(place)", in: folder).status == 1, "\(place)")
      }
    }
  }

  @Test func pipeThatDoesNotBlockGetsEverything() throws {
    try withScene { folder, _ in
      // The reader takes a piece at a time of a pipe that is soon full, and whose ends do not block.
      let program = """
        import fcntl, os, subprocess, sys, time
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        process = subprocess.Popen(sys.argv[1:], stdout=writing)
        os.close(writing)
        count = 0
        while True:
            piece = os.read(reading, 3000)
            if not piece: break
            count += len(piece)
            time.sleep(0.001)
        print(process.wait(), count)
        """
      try Data(program.utf8).write(to: folder.appending(path: "slow.py"))
      let command = "\"$MOE\" train --generate-completion-script zsh"
      let whole = try shell(command, in: folder)
      let slow = try shell("python3 slow.py \(command)", in: folder)
      #expect(whole.output.utf8.count > 8192)
      #expect(slow.output == "0 \(whole.output.utf8.count)\n")
    }
  }

  @Test func closedStreamsAreNoPlaceForFiles() throws {
    try withScene { folder, training in
      let arguments = training.arguments("bare", settings: ["steps": "4"])
      let words = arguments.map { "'\($0)'" }.joined(separator: " ")
      let bare = try shell("exec \"$MOE\" \(words) <&- >&- 2>&-", in: folder)
      #expect(bare.status == 1, "its output is lost")
      expectSuccess(try training.train("usual", settings: ["steps": "4"]))
      #expect(try training.bytes("bare") == training.bytes("usual"))
      #expect(try training.metrics("bare").count == 4)
      #expect(try training.bytes("bare", "sample.txt") == training.bytes("usual", "sample.txt"))
    }
  }

  @Test func trainingGoesOnWhereItsReportCannotBeWritten() throws {
    try withScene { folder, training in
      let words = training.arguments("run2").map { "'\($0)'" }.joined(separator: " ")
      let run = try shell("exec \"$MOE\" \(words) >/dev/full", in: folder)
      #expect(run.status == 1)
      #expect(try training.metrics("run2").count == 40)
      #expect(try names(in: folder.appending(path: "run2")).contains("sample.txt"))
    }
  }

  @Test func everyWriteGoesThroughTheStreams() throws {
    let sources = fixtures.deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Sources/MoECommand")
    let files = try #require(FileManager.default.enumerator(atPath: sources.path)).compactMap {
      $0 as? String
    }
    #expect(files.count > 20)
    for file in files where file.hasSuffix(".swift") {
      let text = try String(contentsOf: sources.appending(path: file), encoding: .utf8)
      for call in [
        " print(", "Swift.print(", "FileHandle.standard", "fputs(", "debugPrint(", ".write(to: URL",
      ] {
        #expect(!text.contains(call), "\(file) writes by \(call)")
      }
    }
  }
}
