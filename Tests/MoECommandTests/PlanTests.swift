import Foundation
import Testing

/// `moe plan` as a command: what it prints and writes, and how it refuses.
@Suite struct PlanTests {
  static let model = ["plan", "--experts", "16", "--hidden", "64", "--ffn", "128"]

  struct Plan: Decodable {
    struct Entry: Decodable {
      struct Prediction: Decodable {
        struct Split: Decodable { var expertParallel, dataParallel, tensorParallel, overlap: Int }
        struct Stages: Decodable {
          struct Stage: Decodable { var seconds: Double }
          var stages: [Stage]
        }
        var split: Split
        var stages: Stages
      }
      var seconds: Double
      var tokensPerSecond: Double
      var prediction: Prediction
    }
    var splits: [Entry]
  }

  @Test func tableAndDrawing() throws {
    try withTemporaryFolder { folder in
      let file = folder.appending(path: "plan.svg").path
      let run = try moe(Self.model + ["--hosts", "4", "--svg", file])
      expectSuccess(run)
      for part in [
        "16 experts of 64 × 128, top-2", "EP", "tokens/s", "memory/rank", "between hosts",
        "hidden by overlap",
        "memory of a rank", "drawing → \(file)",
      ] {
        #expect(run.output.contains(part), "“\(part)” is not in: \(run.output)")
      }
      #expect(try String(contentsOfFile: file, encoding: .utf8).hasPrefix("<svg "))
      #expect(try moe(Self.model + ["--hosts", "4"]).output == moe(Self.model + ["--hosts", "4"]).output)
    }
  }

  @Test func json() throws {
    let run = try moe(Self.model + ["--hosts", "2", "--ranks-per-host", "4", "--load", "zipf:1", "--json"])
    expectSuccess(run)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let plan = try decoder.decode(Plan.self, from: Data(run.output.utf8))
    #expect(plan.splits.count > 3)
    for entry in plan.splits {
      let split = entry.prediction.split
      #expect(split.expertParallel * split.dataParallel * split.tensorParallel == 8)
      #expect(abs(entry.seconds - entry.prediction.stages.stages.reduce(0) { $0 + $1.seconds }) < 1e-9)
      #expect(abs(entry.tokensPerSecond * entry.seconds - 4096 * 8) < 1)
    }
  }

  @Test func loadOfARunAndOfRoutes() throws {
    try withTemporaryFolder { folder in
      let metrics = folder.appending(path: "metrics.jsonl")
      let load = Array(repeating: "10", count: 15).joined(separator: ",")
      try Data(
        """
        {"step":1,"tokens":8,"loss":5.5,"auxiliary_loss":0,"gradient_norm":{"all":1,"expert":1,"other":1},"learning_rate":0.1,"seconds":0.1,"tokens_per_second":80,"stages":{},\
        "layers":[{"layer":1,"load":[90,\(load)],"dropped":0,"entropy":1,"balance_loss":0,"z_loss":0}]}

        """.utf8
      ).write(to: metrics)
      for path in [metrics.path, folder.path] {
        let run = try moe(Self.model + ["--hosts", "4", "--load", path, "--ep", "4", "--overlap", "1"])
        expectSuccess(run)
        // 90 + 3·10 of 240 choices are on the first of four ranks.
        #expect(run.output.contains("busiest rank        2.0"), "\(run.output)")
      }
      expectFailure(
        try moe("plan", "--experts", "8", "--hidden", "64", "--ffn", "128", "--load", metrics.path),
        saying: ["layer 0 of the measured load has 16 experts, expected the model's 8"])
      try Data("nonsense\n\n".utf8).write(to: metrics)
      expectFailure(try moe(Self.model + ["--load", metrics.path]), saying: [metrics.path, "not JSON"])
    }
  }

  @Test func failures() throws {
    expectFailure(
      try moe(Self.model + ["--cluster", "/none"]), saying: ["/none: cannot be opened", "No such file"])
    expectFailure(
      try moe(Self.model + ["--memory", "1MiB"]),
      saying: ["no split fits", "1.00 MiB", "give hosts more memory"])
    expectFailure(try moe(Self.model + ["--ep", "3"]), saying: ["no split of 1 ranks has EP 3"])
    expectFailure(
      try moe(Self.model + ["--svg", "/none/plan.svg"]),
      saying: ["/none/plan.svg: cannot be created in the folder “/none/”"])
    try withTemporaryFolder { folder in
      let file = folder.appending(path: "cluster.json")
      try Data("{".utf8).write(to: file)
      expectFailure(try moe(Self.model + ["--cluster", file.path]), saying: [file.path, "this is not JSON"])
      expectFailure(
        try moe("plan", "--calibrate", "--output", folder.path),
        saying: ["is a folder, expected the name of a file"])
    }
  }

  /// A description of one host does not say what several have between them.
  @Test func severalHostsNeedALink() throws {
    try withTemporaryFolder { folder in
      let file = folder.appending(path: "host.json")
      try Data(
        """
        {"host_count":1,"ranks_per_host":1,"cores_per_host":2,"memory":1e10,"link":{"latency":1e-6,"bandwidth":1e10},
        "intra":{"latency":1e-6,"bandwidth":1e10},"rates":{"flops":1e11,"memory_bandwidth":1e10,"curve":[],
        "choice_seconds":0,"pass_seconds":0}}
        """.utf8
      ).write(to: file)
      let arguments = Self.model + ["--cluster", file.path]
      expectSuccess(try moe(arguments))
      expectUsageError(
        try moe(arguments + ["--hosts", "4"]), saying: "--link is missing: the description has one host")
      expectSuccess(try moe(arguments + ["--hosts", "4", "--link", "1gbit:50us"]))
    }
  }

  @Test func loadsThatNoRunHas() throws {
    try withTemporaryFolder { folder in
      let metrics = folder.appending(path: "metrics.jsonl")
      let load = Array(repeating: "\(Int.max)", count: 16).joined(separator: ",")
      try Data(
        """
        {"step":1,"tokens":8,"loss":5.5,"auxiliary_loss":0,"gradient_norm":{"all":1,"expert":1,"other":1},"learning_rate":0.1,"seconds":0.1,"tokens_per_second":80,"stages":{},\
        "layers":[{"layer":1,"load":[\(load)],"dropped":0,"entropy":1,"balance_loss":0,"z_loss":0}]}

        """.utf8
      ).write(to: metrics)
      expectFailure(
        try moe(Self.model + ["--load", metrics.path]),
        saying: [metrics.path, "line 1", "“load” adds up to more than 2^40 choices"])
    }
  }

  @Test(arguments: [
    (["plan"], "--experts is missing"), (["plan", "--experts", "8"], "--hidden is missing"),
    (["plan", "--experts", "0", "--hidden", "1", "--ffn", "1"], "the number of experts is 0, expected 1 to"),
    (model + ["--top-k", "17"], "a token passes 17 of 16 experts"),
    (model + ["--hosts", "0"], "there are 0 hosts"),
    (model + ["--hosts", "-1"], "--hosts"), (model + ["--hosts=-1"], "there are -1 hosts"),
    (model + ["--link", "fast"], "--link is “fast”, expected a bandwidth and a latency such as 1gbit:50us"),
    (model + ["--flops", "-1G"], "flops"),
    (model + ["--flops=-1G"], "--flops is “-1G”, expected a rate such as 250G"),
    (model + ["--memory", "24"], "no split"), (model + ["--load", "zipf:x"], "--load is “zipf:x”"),
    (model + ["--load", "unifrom"], "--load is “unifrom”, expected uniform, zipf:1.2"),
    (model + ["--link", "0.00000001B/s:1us"], "bandwidth of 1e-08 bytes/s, expected 1 to 10^18"),
    (model + ["--flops", "0.1"], "0.1 operations per second, expected 1 to 10^21"),
    (
      ["plan", "--experts", "65536", "--hidden", "1048576", "--ffn", "1048576", "--layers", "4096"],
      "parameters, expected at most 10^16"
    ),
    (
      ["plan", "--experts", "65536", "--top-k", "32768", "--hidden", "64", "--ffn", "64"],
      "a token passes 32768 of 65536 experts, expected at most 64"
    ),
    (model + ["--capacity-factor", "0"], "the capacity factor is 0.0"),
    (model + ["--tokens", "0"], "a step has 0 tokens"),
    (model + ["--ep", "0"], "--ep is 0, expected at least 1"),
    (model + ["--optimizer", "adam"], "'adam' is invalid for '--optimizer"),
    (model + ["--mpi"], "--mpi goes with"),
    (model + ["--output", "x"], "--output goes with --calibrate"),
  ])
  func badUsage(_ arguments: [String], _ complaint: String) throws {
    let run = try moe(arguments)
    if complaint == "no split" { return expectFailure(run, saying: [complaint]) }
    expectUsageError(run, saying: complaint)
  }
}
