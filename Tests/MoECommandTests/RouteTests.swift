import Foundation
import MoECheckpoints
import Testing

/// Policies on logits small enough to route by hand.
@Suite struct RouteTests {
  /// Logits, options, and what the output file must hold.
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var tensors: [String: Tensor]
    var options: [String]
    var ids: [Int32]
    var weights: [Float]
    var slots: [Int32]
    var counts: [Int32]
    var capacity: Int32
    var loss: Float
    var testDescription: String { name }

    init(
      _ name: String, _ logits: [[Float]], bias: [Float]? = nil, _ options: String, ids: [Int32],
      weights: [Float], slots: [Int32], counts: [Int32], capacity: Int32, loss: Float
    ) {
      self.name = name
      tensors = ["logits": Tensor([logits.count, logits[0].count], logits.flatMap { $0 })]
      tensors["bias"] = bias.map { Tensor([$0.count], $0) }
      self.options = options.split(separator: " ").map(String.init)
      (self.ids, self.weights, self.slots) = (ids, weights, slots)
      (self.counts, self.capacity, self.loss) = (counts, capacity, loss)
    }
  }

  /// Logits whose softmax is this.
  private static func softmax(_ probabilities: [Float]...) -> [[Float]] {
    probabilities.map { $0.map { Float(Foundation.log(Double($0))) } }
  }

  /// Logits whose sigmoid is this.
  private static func sigmoid(_ scores: [Float]...) -> [[Float]] {
    scores.map { $0.map { Float(Foundation.log(Double($0) / (1 - Double($0)))) } }
  }

  /// Four of six tokens choose expert 0. S·f/E = 6·1/3 = 2 rows. The mean probabilities are 2.9/6, 1.85/6 and
  /// 1.25/6, so the loss is 3·(4/6·2.9/6 + 1/6·1.85/6 + 1/6·1.25/6) = 1.225.
  private static let crowd = softmax(
    [0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6])

  private static func crowd(
    _ name: String, _ options: String, weights: [Float], slots: [Int32], capacity: Int32
  ) -> Case {
    Case(
      name, crowd, "--policy switch \(options)", ids: [0, 0, 1, 0, 0, 2], weights: weights, slots: slots,
      counts: [4, 1, 1], capacity: capacity, loss: 1.225)
  }

  /// Two tokens prefer expert 1 to 0, four expert 0 to 1. The loss counts first choices:
  /// 3·(4/6·0.5 + 2/6·0.4) = 1.4.
  private static let pairs = softmax(
    [0.3, 0.6, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1])

  private static let third: Float = 1 / 3

  static let cases: [Case] = [
    crowd(
      "switch drops the latest", "--capacity-factor 1.0 --min-capacity 0",
      weights: [0.7, 0.6, 0.8, 0, 0, 0.6],
      slots: [0, 1, 0, -1, -1, 0], capacity: 2),
    crowd(
      "switch drops by position when told so",
      "--capacity-factor 1.0 --min-capacity 0 --drop-policy position",
      weights: [0.7, 0.6, 0.8, 0, 0, 0.6], slots: [0, 1, 0, -1, -1, 0], capacity: 2),
    crowd(
      "switch drops the least probable", "--capacity-factor 1.0 --min-capacity 0 --drop-policy probs",
      weights: [0.7, 0, 0.8, 0.8, 0, 0.6], slots: [0, -1, 0, 1, -1, 0], capacity: 2),
    crowd(
      "switch with a least capacity", "--capacity-factor 1.0 --min-capacity 3",
      weights: [0.7, 0.6, 0.8, 0.8, 0, 0.6], slots: [0, 1, 0, 2, -1, 0], capacity: 3),
    crowd(
      "switch as published: at least 4", "", weights: [0.7, 0.6, 0.8, 0.8, 0.5, 0.6],
      slots: [0, 1, 0, 2, 3, 0], capacity: 4),
    crowd(
      "switch without drops reports the largest count", "--no-drop", weights: [0.7, 0.6, 0.8, 0.8, 0.5, 0.6],
      slots: [0, 1, 0, 2, 3, 0], capacity: 4),
    crowd(
      "a factor no batch needs", "--capacity-factor 999999999.999999999 --min-capacity 0",
      weights: [0.7, 0.6, 0.8, 0.8, 0.5, 0.6], slots: [0, 1, 0, 2, 3, 0], capacity: 6),
    // ⌊6·1/3⌋ = 2, rounded up to 4. The first choices of tokens 2 to 5 fill expert 0 before the second choices of
    // tokens 0 and 1 are seen.
    Case(
      "gshard-top2 puts first choices first", pairs, "--policy gshard-top2 --capacity-factor 1",
      ids: [1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1],
      weights: [
        2 * third, 0, 2 * third, 0, 2 * third, third, 2 * third, third, 2 * third, 0, 2 * third, 0,
      ], slots: [0, -1, 1, -1, 0, 2, 1, 3, 2, -1, 3, -1], counts: [6, 6, 0], capacity: 4, loss: 1.4),
    // Every expert is chosen once: 4·Σ¼·P = 1.
    Case(
      "softmax-topk", softmax([0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]), "--policy softmax-topk",
      ids: [0, 1, 3, 2], weights: [5.0 / 8, 3.0 / 8, 4.0 / 7, 3.0 / 7], slots: [0, 0, 0, 0],
      counts: [1, 1, 1, 1], capacity: 1, loss: 1),
    // 4/3·(0.5 + 0.3 + 0.15).
    Case(
      "softmax-topk of three", softmax([0.5, 0.3, 0.15, 0.05]), "--policy softmax-topk --top-k 3",
      ids: [0, 1, 2], weights: [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95], slots: [0, 0, 0], counts: [1, 1, 1, 0],
      capacity: 1, loss: 1.266667),
    // ⌈2·3·1/4⌉ = 2 rows for three tokens; 4·(½·0.6 + ½·0.2).
    Case(
      "softmax-topk with a capacity",
      softmax([0.6, 0.2, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1]),
      "--policy softmax-topk --capacity-factor 1", ids: [0, 1, 0, 1, 0, 1],
      weights: [0.75, 0.25, 0.75, 0.25, 0, 0], slots: [0, 0, 1, 1, -1, -1], counts: [3, 3, 0, 0], capacity: 2,
      loss: 1.6),
    // The best two are e times as large as the rest: ½·½ and ½·½ of 4·e/(2e + 2).
    Case(
      "topk-softmax", [[0, 1, 0, 1]], "--policy topk-softmax", ids: [1, 3], weights: [0.5, 0.5],
      slots: [0, 0], counts: [0, 1, 0, 1], capacity: 1, loss: 1.462117),
    // The groups score 1.0, 1.1, 0.75 and 0.9, so that expert 6 with 0.8 is out; 8·½·(0.9 + 0.6)/3.75.
    Case(
      "deepseek-v3 keeps to the best groups", sigmoid([0.9, 0.1, 0.6, 0.5, 0.4, 0.35, 0.8, 0.1]),
      "--policy deepseek-v3 --groups 4 --groups-selected 2 --top-k 2", ids: [0, 2], weights: [1.5, 1],
      slots: [0, 0], counts: [1, 0, 1, 0, 0, 0, 0, 0], capacity: 1, loss: 1.6),
    // The bias lifts group 2 to 2.75; the weights are 0.4 and 0.35 without it, over their sum, times 2.5.
    Case(
      "deepseek-v3 chooses with the bias and weighs without",
      sigmoid([0.9, 0.1, 0.6, 0.5, 0.4, 0.35, 0.8, 0.1]),
      bias: [0, 0, 0, 0, 1, 1, 0, 0],
      "--policy deepseek-v3 --groups 4 --groups-selected 2 --top-k 2 --selection-bias bias", ids: [4, 5],
      weights: [4.0 / 3, 3.5 / 3], slots: [0, 0], counts: [0, 0, 0, 0, 1, 1, 0, 0], capacity: 1, loss: 0.8),
    // 2.99 is within 2 % of 3 and shares with it; nothing is near 2.99 once 3 is out. The softmax of all three
    // gives 4·½·(p₀ + p₁) = 2·(1 − p₂ − p₃).
    Case(
      "sparsemixer", [[3, 2.99, 0, 0]], "--policy sparsemixer", ids: [0, 1], weights: [0.5025, 1],
      slots: [0, 0], counts: [1, 1, 0, 0], capacity: 1, loss: 1.904697),
    // 2·(0.8/(0.8 + 0.2)).
    Case(
      "llama4", sigmoid([0.2, 0.8]), "--policy llama4", ids: [1], weights: [0.8], slots: [0], counts: [0, 1],
      capacity: 1, loss: 1.6),
    Case(
      "ties go to the lower index", [[0, 0, 0, 0]], "--policy softmax-topk", ids: [0, 1],
      weights: [0.5, 0.5],
      slots: [0, 0], counts: [1, 1, 0, 0], capacity: 1, loss: 1),
    Case(
      "ties of groups go to the lower index", sigmoid([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
      "--policy deepseek-v3 --groups 4 --groups-selected 1 --top-k 2", ids: [0, 1], weights: [1.25, 1.25],
      slots: [0, 0], counts: [1, 1, 0, 0, 0, 0, 0, 0], capacity: 1, loss: 1),
    Case(
      "an expert at −∞ is ruled out", [[-.infinity, 0, 0, -.infinity]], "--policy softmax-topk", ids: [1, 2],
      weights: [0.5, 0.5], slots: [0, 0], counts: [0, 1, 1, 0], capacity: 1, loss: 2),
  ]

  @Test(arguments: cases)
  func isRoutedAsByHand(_ example: Case) throws {
    let sets = try supportedISAs()
    try withTemporaryFolder { folder in
      let (input, output) = (folder.appending(path: "logits"), folder.appending(path: "routes"))
      try Data(safetensors(example.tensors)).write(to: input)
      for set in sets {
        let run = try moe(
          ["route", input.path, "--output", output.path, "--isa", set] + example.options)
        expectSuccess(run)
        let dropped = example.slots.count { $0 < 0 }
        #expect(run.output.contains("dropped         \(dropped) of \(example.slots.count) choices\n"))
        let file = try SafetensorsFile(path: output.path)
        try expect(file, example, "on \(set)")
      }
      #expect(try names(in: folder) == ["logits", "routes"])
    }
  }

  private func expect(_ file: SafetensorsFile, _ example: Case, _ comment: Comment) throws {
    let tokenCount = try #require(example.tensors["logits"]).shape[0]
    let shape = [tokenCount, example.ids.count / tokenCount]
    for (name, expected) in [
      ("expert_ids", shape), ("weights", shape), ("slots", shape), ("counts", [example.counts.count]),
      ("capacity", [1]), ("auxiliary_loss", [1]),
    ] {
      #expect(try file.tensor(name).shape == expected, "\(name)")
    }
    #expect(try file.integers(named: "expert_ids") == example.ids, comment)
    #expect(try file.integers(named: "slots") == example.slots, comment)
    #expect(try file.integers(named: "counts") == example.counts, comment)
    #expect(try file.integers(named: "capacity") == [example.capacity], comment)
    // Logarithms and exponentials of fp32 numbers near 1.
    let weights = try file.floats(named: "weights")
    #expect(zip(weights, example.weights).allSatisfy { abs($0 - $1) <= 2e-6 }, "\(weights), \(comment)")
    let loss = try file.floats(named: "auxiliary_loss")[0]
    #expect(abs(loss - example.loss) <= 2e-6, "\(loss), \(comment)")
  }

  @Test func listNamesThePolicies() throws {
    let list = try moe("route", "--list")
    expectSuccess(list)
    let names = Set(list.output.split(separator: "\n").dropFirst(2).map { String($0.prefix { $0 != " " }) })
    #expect(names.count == list.output.split(separator: "\n").count - 2, "a name stands twice")
    #expect(
      names.isSuperset(
        of: GoldenRouteTests.names + [
          "softmax-topk", "topk-softmax", "deepseek-v3", "sparsemixer", "llama4", "cosine", "noisy-topk",
        ]))
    // Every checkpoint family has its rule under its model_type.
    #expect(
      names.isSuperset(of: Set(Checkpoint.supportedModelTypes).subtracting(["llama4", "gpt_oss_mxfp4"])))
  }

  @Test(
    arguments: GoldenRouteTests.names + [
      "softmax-topk", "topk-softmax", "deepseek-v3", "sparsemixer", "llama4",
    ])
  func threadsDoNotChangeABit(_ policy: String) throws {
    try withTemporaryFolder { folder in
      let input = folder.appending(path: "x")
      let count = 1000
      let values = (0..<count * 16).map { Float(($0 &* 2_654_435_761) >> 16 & 0xFFF) / 1024 }
      try Data(safetensors(["logits": Tensor([count, 16], values)])).write(to: input)
      let files = try (1...3).map { threads in
        let file = folder.appending(path: "\(threads)")
        expectSuccess(
          try moe("route", input.path, "--policy", policy, "--output", file.path, "--threads", "\(threads)"))
        return try Data(contentsOf: file)
      }
      #expect(files[0] == files[1] && files[0] == files[2])
    }
  }

  @Test(arguments: ["switch", "gshard-top2", "deepseek-v3"])
  func noTokens(_ policy: String) throws {
    try withTemporaryFolder { folder in
      let (input, output) = (folder.appending(path: "x"), folder.appending(path: "y"))
      try Data(safetensors(["logits": Tensor(0, 8)])).write(to: input)
      let run = try moe("route", input.path, "--policy", policy, "--output", output.path)
      expectSuccess(run)
      #expect(
        run.output.contains("\(policy): 0 tokens") && run.output.contains("dropped         0 of 0 choices"))
      let file = try SafetensorsFile(path: output.path)
      #expect(try file.tensor("slots").shape[0] == 0)
      #expect(try file.integers(named: "counts") == Array(repeating: 0, count: 8))
    }
  }
}
