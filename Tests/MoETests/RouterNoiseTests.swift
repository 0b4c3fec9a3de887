import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// The router's noise against the oracle's of the same seed.
@Suite struct RouterNoiseTests {
  /// Multiples of 1/8, so that no quotient is near the threshold 2·0.37.
  private static let policy = RoutingPolicy(scoring: .sparseMixer(jitter: 0.37))

  private static func logits(rows: Int, columns: Int, _ generator: inout SeededGenerator) throws -> Matrix {
    try Matrix(
      rows: rows, columns: columns,
      elements: (0..<rows * columns).map { _ in Float(Int.random(in: -40...40, using: &generator)) / 8 })
  }

  @Test(arguments: InstructionSet.supported)
  func samplesAreTheOracles(_ instructionSet: InstructionSet) throws {
    var generator = SeededGenerator(seed: 1)
    var others = 0
    for round in 0..<60 {
      let columns = [1, 2, 7, 16, 17, 33][round % 6]
      let k = min(columns, 1 + round % 4)
      let matrix = try Self.logits(rows: 53, columns: columns, &generator)
      var noise = RouterNoise(seed: generator.next(), firstToken: Int(generator.next() % 1000))
      if round == 0 { noise.firstToken = .max }
      let mask = (0..<53).map { _ in generator.next() % 8 != 0 }
      let record = try Self.policy.route(
        logits: matrix, expertsPerToken: k, mask: mask, noise: noise,
        execution: Execution(instructionSet: instructionSet, threadCount: 1 + round % 3))
      let logits = Reference.rows(matrix)
      let exact = Reference.decisions(of: record, logits: logits, policy: Self.policy, noise: noise).routing
      for token in 0..<53 {
        let ids = record.expertIDs[token * k..<(token + 1) * k].map(Int.init)
        try ensure((ids[0] >= 0) == mask[token], "the mask of token \(token)")
        guard mask[token] else { continue }
        for choice in 0..<k {
          let noisy = Reference.sparseMixerNoisyLogits(
            logits[token], after: Array(ids[..<choice]), jitter: Double(Float(0.37)), noise: noise,
            token: token)
          try ensure(
            noisy[ids[choice]] >= noisy.max()! - 1e-5,
            "round \(round), token \(token) samples \(ids) of \(noisy)")
          if choice == k - 1, k < columns {
            let second = noisy.indices.filter { $0 != ids[choice] }.map { noisy[$0] }.max()!
            let margin = Double(record.margins[token])
            try ensure(
              Tolerance.agree(margin, noisy[ids[choice]] - second, within: 2e-5),
              "margin \(margin) of \(noisy)")
          }
          let weight = Double(record.expertWeights[token * k + choice])
          let expected = exact.weights[token][choice]
          try ensure(
            Tolerance.agree(weight, expected, within: Tolerance.gamma(100)),
            "round \(round): weight \(weight) of token \(token), expected \(expected)")
        }
        if Double(logits[token][ids[0]]) < logits[token].max()! { others += 1 }
      }
    }
    #expect(others > 200, "hardly ever another expert than the best is sampled: \(others)")
  }

  @Test func drawsDependOnNoThreadsAndNoSplit() throws {
    var generator = SeededGenerator(seed: 2)
    let matrix = try Self.logits(rows: 130, columns: 9, &generator)
    let tail = try Matrix(rows: 70, columns: 9, elements: matrix.elements[60 * 9..<130 * 9])
    let noise = RouterNoise(seed: 3, firstToken: 11)
    let whole = try Self.policy.route(
      logits: matrix, expertsPerToken: 2, noise: noise, execution: Execution(threadCount: 1))
    for threads in [2, 5] {
      let execution = try Execution(threadCount: threads)
      let again = try Self.policy.route(
        logits: matrix, expertsPerToken: 2, noise: noise, execution: execution)
      #expect(again == whole)
      let part = try Self.policy.route(
        logits: tail, expertsPerToken: 2, noise: RouterNoise(seed: 3, firstToken: 71), execution: execution)
      #expect(part.expertIDs == Array(whole.expertIDs[120...]))
      #expect(bits(part.expertWeights) == bits(Array(whole.expertWeights[120...])))
    }
    let other = try Self.policy.route(logits: matrix, expertsPerToken: 2, noise: RouterNoise(seed: 4))
    #expect(other.expertIDs != whole.expertIDs)
  }

  /// With one expert of weight 1 the routes do not depend on the input, so jitter that affects only the router changes
  /// no bit of the output. With more experts it changes routes.
  @Test func jitterStaysWithTheRouter() throws {
    for expertCount in [1, 6] {
      let configuration = try MoEConfiguration(
        hiddenSize: 20, feedForwardSize: 12, expertCount: expertCount, expertsPerToken: 1,
        routing: Self.jittered(expertCount == 1 ? .topKSoftmax : .switchTransformer()),
        denseBranch: .shared(feedForwardSize: 5))
      let layer = try MoELayer(configuration, weights: MoEWeights.random(for: configuration, seed: 1))
      let input = Activations.random([40, 20], seed: 2)
      var (plain, jittered) = (input, input)
      var recording = Recording()
      var workspace = Workspace()
      try layer.forward(input, recording: &recording, into: &plain, workspace: &workspace)
      let before = recording.record
      try layer.forward(
        input, noise: RouterNoise(seed: 3), recording: &recording, into: &jittered,
        workspace: &workspace)
      #expect((plain.tokens == jittered.tokens) == (expertCount == 1))
      #expect((before.logSumExp == recording.record.logSumExp) == false)
      // The next pass has no noise again.
      try layer.forward(input, recording: &recording, into: &jittered, workspace: &workspace)
      #expect(plain.tokens == jittered.tokens && before == recording.record)
    }
  }

  @Test(arguments: [-0.5, 1.5, Float.nan, .infinity])
  func impossibleJitterIsRefused(_ jitter: Float) throws {
    var policy = Self.policy
    policy.noise.inputJitter = jitter
    #expect(throws: MoEError.self) {
      try policy.route(logits: Matrix(rows: 1, columns: 2), expertsPerToken: 1)
    }
  }

  private static func jittered(_ policy: RoutingPolicy) -> RoutingPolicy {
    var policy = policy
    policy.noise.inputJitter = 0.5
    return policy
  }
}
