import Foundation
import Testing

/// Behaviour of every command that scripts rely on: help, exit codes, and which stream has which text.
@Suite struct ContractTests {
  @Test(arguments: [
    [], ["info"], ["apply"], ["route"], ["train"], ["generate"], ["report"], ["plan"],
    ["check"],
  ])
  func helpHasExamples(_ command: [String]) throws {
    let help = try moe(command + ["--help"])
    expectSuccess(help)
    let example = command.first.map { "  moe \($0) " } ?? "  moe info\n"
    #expect(help.output.contains("Example") && help.output.contains(example))
    // A wrapped example cannot be pasted: the line after one is another, continues it, or is empty.
    let lines = help.output.split(separator: "\n", omittingEmptySubsequences: false)
    let examples = lines.drop { !$0.hasPrefix("Example") }.dropFirst().prefix { !$0.isEmpty }
    for line in examples { #expect(line.hasPrefix("  "), "wrapped: \(line)") }
    func begins(_ line: Substring) -> Bool { line.hasPrefix("  moe ") || line.hasPrefix("  mpirun ") }
    for (line, next) in zip(lines, lines.dropFirst()) where begins(line) {
      #expect(
        next.isEmpty || (line.hasSuffix("\\") ? next.hasPrefix("    --") : begins(next)), "\(line)\n\(next)")
    }
  }

  @Test func helpWithoutArguments() throws {
    #expect(try moe().output == moe("--help").output)
    expectSuccess(try moe("--version"))
  }

  @Test func infoIsForPeople() throws {
    let info = try moe("info")
    expectSuccess(info)
    for label in ["version", "CPU", "ISA", "threads", "OpenMP", "BLAS", "MPI"] {
      #expect(info.output.contains("\n\(label) ") || info.output.hasPrefix("\(label) "))
    }
  }

  struct Info: Decodable {
    var version: String
    var cpu: String
    var isa: String
    var supportedISAs: [String]
    var threads: Int
    var openMP: String
    var blas: String
    var mpi: String
  }

  private func info(_ options: String..., environment: [String: String] = [:]) throws -> Info {
    let run = try moe(["info", "--json"] + options, environment: environment)
    expectSuccess(run)
    return try JSONDecoder().decode(Info.self, from: Data(run.output.utf8))
  }

  @Test func infoAsJSON() throws {
    let info = try info()
    #expect(info.isa == info.supportedISAs.last, "the best is the default")
    #expect(info.supportedISAs.contains("scalar"), "every CPU runs it")
    #expect(info.threads >= 1)
  }

  @Test func threadsAndInstructionSetCanBeChosen() throws {
    let supported = try supportedISAs()
    #expect(try info("--threads", "3").threads == 3)
    #expect(try info(environment: ["OMP_NUM_THREADS": "5"]).threads == 5)
    #expect(try info("--threads", "3", environment: ["OMP_NUM_THREADS": "5"]).threads == 3)
    for isa in supported {
      #expect(try info("--isa", isa).isa == isa)
      #expect(try info(environment: ["MOE_ISA": isa]).isa == isa)
      #expect(try info("--isa", "scalar", environment: ["MOE_ISA": isa]).isa == "scalar")
    }
  }

  @Test func unknownInstructionSetInTheEnvironment() throws {
    for command in [["info"], ["info", "--json"], ["check"], ["route", "x", "--policy", "switch"]] {
      expectFailure(
        try moe(command, environment: ["MOE_ISA": "nonsense"]),
        saying: ["MOE_ISA", "nonsense", "scalar, avx2, avx512"])
    }
  }

  @Test func checkAgrees() throws {
    let kernels = try moe("check", "--isa", "scalar")
    expectSuccess(kernels)
    #expect(kernels.output.hasSuffix("all within bounds\n"))
    let checkpoints = try moe("check", "--fixtures", fixtures.path)
    expectSuccess(checkpoints)
    #expect(checkpoints.output.contains("all \(fixtureNames.count) within"))
    expectFailure(try moe("check", "--fixtures", "/none"), saying: ["/none: is not a folder"])
    try withTemporaryFolder { folder in
      expectFailure(
        try moe("check", "--fixtures", folder.path), saying: [folder.path, "no folder in it has an expected"])
    }
  }

  static let apply = ["apply", "m", "--layer", "0", "--input", "x", "--output", "y"]
  static let route = ["route", "x", "--policy"]
  static let plan = ["plan", "--experts", "8", "--hidden", "64", "--ffn", "64"]
  static let train = ["train", "--text", "x", "--out", "r"]

  @Test func routerWithoutGradientIsAWarning() throws {
    try withTemporaryFolder { folder in
      let logits = folder.appending(path: "l.safetensors")
      try Data(safetensors(["logits": Tensor(4, 8)])).write(to: logits)
      let run = try moe("route", logits.path, "--policy", "topk-softmax", "--top-k", "1")
      #expect(run.status == 0 && run.output.contains("top-1 of 8 experts"))
      #expect(run.errors.hasPrefix("warning: --policy topk-softmax with a top-k of 1"))
      #expect(run.errors.count { $0 == "\n" } == 1)
      expectSuccess(try moe("route", logits.path, "--policy", "topk-softmax"))
    }
  }

  @Test(arguments: [
    (["nonsense"], "nonsense"), (["info", "--bogus"], "--bogus"),
    (["info", "--threads", "0"], "--threads is 0"),
    (["info", "--threads", "1025"], "--threads is 1025, expected 1 to 1024"),
    (["info", "--threads", "two"], "'two' is invalid for '--threads"),
    (["info", "--isa", "sse"], "'sse' is invalid for '--isa"),
    (["check", "x"], "Unexpected argument 'x'"), (["apply"], "Missing expected argument"),
    (["apply", "m", "--input", "x", "--output", "y"], "--layer"),
    (apply + ["--threads", "0"], "--threads is 0"),
    (apply + ["--dtype", "int7"], "'int7' is invalid for '--dtype"),
    (["route", "x"], "--policy is missing; moe route --list shows the names"),
    (["route", "--policy", "switch"], "a file with logits is missing"),
    (route + ["swich"], "--policy is “swich”, expected one of switch, "),
    (route + ["switch", "--capacity-factor", "-1"], "capacity-factor"),
    (route + ["switch", "--capacity-factor", "0"], "--capacity-factor is “0”, expected a positive number"),
    (route + ["switch", "--capacity-factor", "1e3"], "--capacity-factor is “1e3”"),
    (route + ["switch", "--min-capacity=-1"], "--min-capacity is -1, expected 0 to"),
    (route + ["switch", "--min-capacity", "9223372036854775807"], "expected 0 to 2147483647"),
    (route + ["switch", "--top-k", "0"], "--top-k is 0, expected at least 1"),
    (route + ["switch", "--drop-policy", "random"], "'random' is invalid for '--drop-policy"),
    (
      route + ["switch", "--no-drop", "--capacity-factor", "1"],
      "--no-drop leaves nothing for --capacity-factor"
    ),
    (route + ["switch", "--no-drop", "--min-capacity", "1"], "--no-drop leaves nothing for --min-capacity"),
    (
      route + ["switch", "--no-drop", "--drop-policy", "probs"], "--no-drop leaves nothing for --drop-policy"
    ),
    (route + ["softmax-topk", "--min-capacity", "1"], "--min-capacity needs --capacity-factor"),
    (route + ["softmax-topk", "--drop-policy", "probs"], "--drop-policy needs --capacity-factor"),
    (route + ["deepseek-v3", "--groups", "2"], "--groups and --groups-selected go together"),
    (route + ["sparsemixer", "--selection-bias", "b"], "has no --selection-bias"),
    (
      route + ["sparsemixer", "--groups", "2", "--groups-selected", "1"],
      "sparsemixer has no groups, so --groups"
    ),
    (route + ["switch", "--groups", "2", "--groups-selected", "1"], "switch has no groups, so --groups"),
    (
      route + ["deepseek-v3", "--groups", "0", "--groups-selected", "1"], "--groups is 0, expected at least 1"
    ),
    (
      ["route", "--list", "--policy", "switch"],
      "--list prints the policies and routes nothing, so it goes without --policy"
    ),
    (["route", "--list", "--output", "y"], "goes without --output"),
    (["route", "--list", "x"], "goes without a file"),
    (
      apply + ["--ranks", "2", "--mpi"],
      "--ranks starts ranks in this process, and --mpi takes those of mpirun"
    ),
    (apply + ["--ranks", "1", "--mpi"], "give one of both"),
    (["check", "--gradients", "--fixtures", "f"], "--fixtures has no gradients"),
    (
      ["generate", "r", "--temperature", "0", "--top-p", "0.5"],
      "--temperature 0 always takes the likeliest byte, so --top-p"
    ),
    (plan + ["--inference", "--optimizer", "sgd"], "--inference has no backward pass, so --optimizer"),
    (plan + ["--inference", "--recompute"], "--inference has no backward pass, so --recompute"),
    (
      plan + ["--inference", "--gradient-sum", "exact"], "--inference has no backward pass, so --gradient-sum"
    ),
    (plan + ["--mpi"], "--mpi goes with --calibrate"),
    (plan + ["--json", "--svg", "/dev/stdout"], "--json and --svg"),
    (
      ["plan", "--calibrate", "--experts", "8"],
      "--calibrate measures machines and plans nothing, so it goes without --experts"
    ),
    (["plan", "--calibrate", "--svg", "y"], "goes without --svg"),
    (["plan", "--calibrate", "--json"], "without --json"),
    (["plan", "--calibrate", "--cluster", "y"], "without --cluster"),
    (train + ["--overlap", "2"], "--overlap is for several ranks; --ranks or --mpi gives them"),
    (train + ["--timeout", "9"], "--timeout is for several ranks"),
    (train + ["--ranks", "2", "--mpi"], "--ranks is for ranks of one process; with --mpi"),
    (
      train + ["--clip", "0", "--clip-groups"], "--clip 0 permits any norm of the gradients, so --clip-groups"
    ),
    (train + ["--preset", "dense", "--clip-groups"], "--preset dense has no experts, so --clip-groups"),
    (train + ["--preset", "dense", "--expert-learning-rate", "2"], "so --expert-learning-rate"),
  ])
  func badUsage(_ arguments: [String], _ complaint: String) throws {
    expectUsageError(try moe(arguments), saying: complaint)
  }
}
