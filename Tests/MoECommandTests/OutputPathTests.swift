import Foundation
import MoECheckpoints
import Testing

/// Paths that commands write to: pipes and devices are written to, links followed, inputs and modes kept.
@Suite struct OutputPathTests {
  /// A folder with activations and a checkpoint, and `apply` as a word of a shell.
  private func withScene(_ body: (URL, String) throws -> Void) throws {
    try withTemporaryFolder { folder in
      try Data(safetensors(["x": Tensor(2, 12)])).write(to: folder.appending(path: "x.safetensors"))
      try FileManager.default.copyItem(
        at: fixtures.appending(path: "qwen3_moe"), to: folder.appending(path: "checkpoint"))
      let apply = "\"$MOE\" apply checkpoint --layer 0 --input x.safetensors --output"
      let usual = try shell("\(apply) usual >/dev/null", in: folder)
      #expect(usual.status == 0, "\(usual)")
      try body(folder, apply)
    }
  }

  @Test(arguments: [
    // A script that writes, and the shell's output about the result.
    (
      "mkfifo p; (cmp - usual && echo same) <p & APPLY p >/dev/null; wait; test -p p && echo pipe",
      "same\npipe\n"
    ),
    ("APPLY /dev/null >/dev/null; test -c /dev/null && echo device", "device\n"),
    ("APPLY /dev/stdout 2>/dev/null | cmp - usual && echo same", "same\n"),
    ("APPLY /dev/stdout >y 2>/dev/null; cmp y usual && echo same", "same\n"),
    ("APPLY /proc/self/fd/7 7>y >/dev/null; cmp y usual && echo same", "same\n"),
    ("APPLY /dev/fd/7 7>y >/dev/null; cmp y usual && echo same", "same\n"),
    ("echo old >y; chmod 640 y; APPLY y >/dev/null; stat -c %a y; cmp y usual && echo same", "640\nsame\n"),
    (
      "echo old >y; ln -s y a; ln -s a b; APPLY b >/dev/null; readlink b; cmp y usual && echo same",
      "a\nsame\n"
    ),
    ("mkdir d; ln -s d/new a; APPLY a >/dev/null; readlink a; cmp d/new usual && echo same", "d/new\nsame\n"),
    ("umask 027; APPLY y >/dev/null; stat -c %a y", "640\n"),
    (
      "n=$(printf 'n%.0s' $(seq 255)); APPLY $n >/dev/null; cmp $n usual && echo same; rm $n; ls | wc -l",
      "same\n3\n"
    ),
  ])
  func isWritten(script: String, output: String) throws {
    try withScene { folder, apply in
      let run = try shell(script.replacing("APPLY", with: apply), in: folder)
      #expect(run.output == output && run.errors.isEmpty, "\(run)")
    }
  }

  @Test(arguments: [
    ("x.safetensors", "is the input “x.safetensors”"), ("hard", "is the input “x.safetensors”"),
    ("soft", "is the input “x.safetensors”"),
    ("checkpoint/config.json", "is the input “checkpoint/config.json”"),
    ("checkpoint/model.safetensors.index.json", "is the input"),
    ("shard", "is the input “checkpoint/model-00001"),
    ("loop", "loop: is a loop of symbolic links"), ("none/y", "in the folder “none/”: No such file"),
    ("x.safetensors/y", "Not a directory"), ("checkpoint", "checkpoint: is a folder"),
    ("none/", "none/: cannot be created"), ("dangling", "dangling: cannot be created in the folder"),
    ("/dev/full", "/dev/full: cannot be written: No space left on device"),
    ("$(printf 'n%.0s' $(seq 256))", "File name too long"), ("/dev/fd/77", "the descriptor 77 is not open"),
  ])
  func isRefused(output: String, complaint: String) throws {
    try withScene { folder, apply in
      let prepare = """
        ln x.safetensors hard; ln -s x.safetensors soft; ln -s loop2 loop; ln -s loop loop2
        ln -s none/x dangling; ln -s checkpoint/model-00001-of-00003.safetensors shard
        cat x.safetensors checkpoint/* | sha256sum >before; ls -A >names
        """
      let run = try shell(
        """
        \(prepare)
        \(apply) \(output); echo $?
        cat x.safetensors checkpoint/* | sha256sum | cmp - before; ls -A | cmp - names
        """, in: folder)
      #expect(run.output == "1\n", "\(run)")
      #expect(run.errors.hasPrefix("Error: ") && run.errors.contains(complaint), "\(run)")
      #expect(run.errors.count { $0 == "\n" } == 1)
    }
  }

  @Test func otherCommandsKeepTheirInputs() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("run", settings: ["steps": "2"]))
      try Data(safetensors(["logits": Tensor(4, 8)])).write(to: folder.appending(path: "l.safetensors"))
      let plan = "plan --experts 4 --hidden 64 --ffn 64"
      for (command, output) in [
        ("route l.safetensors --policy switch --output l.safetensors", "l.safetensors"),
        ("report run --output run/metrics.jsonl", "run/metrics.jsonl"),
        ("report run --output run/checkpoint.safetensors", "run/checkpoint.safetensors"),
        ("\(plan) --load run --svg run/metrics.jsonl", "run/metrics.jsonl"),
        ("\(plan) --load run/metrics.jsonl --svg run/metrics.jsonl", "run/metrics.jsonl"),
      ] {
        let before = try Data(contentsOf: folder.appending(path: output))
        let run = try shell("exec \"$MOE\" \(command)", in: folder)
        #expect(run.status == 1 && run.errors.contains("\(output): is the input"), "\(command): \(run)")
        #expect(try Data(contentsOf: folder.appending(path: output)) == before)
      }
      for _ in 0..<2 { expectSuccess(try moe("report", training.path("run"))) }
    }
  }

  @Test(arguments: ["report run --output", "plan --experts 4 --hidden 64 --ffn 64 --svg"])
  func pipesOfOtherCommandsStay(command: String) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("run", settings: ["steps": "2"]))
      let run = try shell(
        "mkfifo p; cat p >got & \"$MOE\" \(command) p >/dev/null; wait; test -p p && head -c 1 got",
        in: folder)
      #expect(run.output == "<", "\(run)")
      let missing = try shell("exec \"$MOE\" \(command) none/y", in: folder)
      #expect(missing.status == 1 && missing.errors.contains("“none/”: No such file"), "\(missing)")
    }
  }

  @Test func fullDiskLeavesTheOldFile() throws {
    try withScene { folder, apply in
      // Mounting needs root; elsewhere the script says so.
      let run = try shell(
        """
        mkdir disk; mount -t tmpfs -o size=64k tmpfs disk 2>/dev/null || { echo no mount; exit; }
        trap 'umount disk' EXIT
        head -c 60000 /dev/zero >disk/fill; echo old >disk/y
        \(apply) disk/y; echo $?; cat disk/y; ls -A disk
        """, in: folder)
      if run.output == "no mount\n" { return }
      #expect(run.output == "1\nold\nfill\ny\n", "\(run)")
      #expect(run.errors == "Error: disk/y: cannot be written: No space left on device\n")
    }
  }

  @Test func limitOfFileSizesIsAnError() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("run", settings: ["steps": "2"]))
      let run = try shell(
        "echo old >y; ls -A >names; (ulimit -f 4; exec \"$MOE\" report run --output y); echo $?; cat y; ls -A | cmp - names",
        in: folder)
      #expect(run.output == "1\nold\n", "\(run)")
      #expect(run.errors == "Error: y: cannot be written: File too large\n")
    }
  }

  @Test func errorsOfTheSystemAreInWords() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      for path in ["text.txt/run", "text.txt", "link", "/proc/run"] {
        let run = try shell(
          "ln -sf none/x link; exec \"$MOE\" train --text text.txt --out \(path)", in: folder)
        #expect(run.status == 1 && run.errors.hasPrefix("Error: "), "\(run)")
        #expect(!run.errors.contains("Domain") && !run.errors.contains("Code="), "\(run)")
        #expect(run.errors.count { $0 == "\n" } == 1)
      }
      #expect(training.recordedSteps("run") == 0)
    }
  }

  @Test(arguments: [
    ("model-00001-of-00003.safetensors", ["holds shards", "model.safetensors.index.json"]),
    ("other.safetensors", ["holds “other.safetensors”", "expected model.safetensors"]),
    ("pytorch_model.bin", ["holds “pytorch_model.bin”", "only PyTorch reads", "expected model.safetensors"]),
    ("model-q4.gguf", ["holds “model-q4.gguf”", "GGUF is not read", "expected model.safetensors"]),
    ("README.md", ["holds no config.json and no weights", "expected model.safetensors"]),
  ])
  func foldersWithoutWeightsAreDescribed(name: String, complaint: [String]) throws {
    try withTemporaryFolder { folder in
      let checkpoint = folder.appending(path: "checkpoint")
      try FileManager.default.createDirectory(at: checkpoint, withIntermediateDirectories: true)
      try Data("x".utf8).write(to: checkpoint.appending(path: name))
      try Data(safetensors(["x": Tensor(2, 12)])).write(to: folder.appending(path: "x"))
      let run = try moe(
        "apply", checkpoint.path, "--layer", "0", "--input", folder.appending(path: "x").path, "--output",
        folder.appending(path: "y").path)
      expectFailure(run, saying: [checkpoint.path] + complaint)
    }
  }
}
