import Foundation
import MoECore
import MoEPlan
import Testing

#if canImport(FoundationXML)
  import FoundationXML
#endif

/// Properties of every prediction, and the search.
@Suite struct PlannerTests {
  /// A random plan, of a seed.
  struct Case {
    var shape: ModelShape
    var step: Workload
    var machines: Cluster
    var split: Split

    init(seed: UInt64) throws {
      var generator = SeededGenerator(seed: seed)
      func pick<Value>(_ values: [Value]) -> Value { values.randomElement(using: &generator)! }
      split = Split(
        expertParallel: pick([1, 2, 3, 4, 8]), dataParallel: pick([1, 2, 4]), tensorParallel: pick([1, 2]),
        overlap: pick([1, 2, 4]))
      let ranks = split.rankCount
      let width = pick((1...ranks).filter { ranks % $0 == 0 })
      shape = try model(
        experts: pick([8, 12, 17]), top: pick([1, 2, 5]), hidden: pick([32, 100]), inner: pick([64, 256]),
        layers: pick([1, 4]), isGated: pick([true, false]))
      step = Workload(tokenCount: pick([500, 4000, 100_000]))
      step.capacityFactor = pick([nil, 1.25])
      step.gradientSum = pick([.exact, .reduced])
      step.recomputes = pick([true, false])
      machines = try cluster(
        hosts: ranks / width, ranks: width, cores: pick([1, 2, width, 4 * width]),
        link: Link(latency: pick([0, 1e-5, 1e-3]), bandwidth: pick([1e7, 1e9])),
        intra: Link(latency: pick([0, 1e-6]), bandwidth: pick([1e9, 1e10])), flops: pick([1e9, 1e11]))
      machines.rates.memoryBandwidth = pick([1e9, 4e10])
      machines.rates.choiceSeconds = 1e-7
    }

    func predict(_ change: (inout Cluster) -> Void = { _ in }) throws -> Prediction {
      var machines = machines
      change(&machines)
      return try Planner(
        model: shape, workload: step, cluster: machines, load: .zipf(exponent: 0.5, seed: 1)
      ).predict(split)
    }
  }

  @Test(arguments: UInt64(0)..<60) func betterMachinesAreNeverSlower(_ seed: UInt64) throws {
    let plan = try Case(seed: seed)
    let plain = try plan.predict()
    #expect(plain.seconds.isFinite && plain.seconds > 0)
    #expect(plain.stages.stages.allSatisfy { $0.seconds >= -1e-12 }, "\(plain.stages)")
    let changes: [(String, (inout Cluster) -> Void)] = [
      ("β", { $0.link.bandwidth *= 3 }), ("α", { $0.link.latency /= 3 }),
      ("β inside", { $0.intra.bandwidth *= 3 }), ("α inside", { $0.intra.latency /= 3 }),
      ("operations", { $0.rates.flops *= 3 }), ("memory", { $0.rates.memoryBandwidth *= 3 }),
      ("choices", { $0.rates.choiceSeconds /= 3 }),
    ]
    for (name, change) in changes {
      let better = try plan.predict(change)
      #expect(better.seconds <= plain.seconds * (1 + 1e-9), "\(name) of seed \(seed)")
      #expect(better.traffic == plain.traffic)
    }
    #expect((0...1).contains(plain.overlapEfficiency ?? 0))
    #expect((0...1).contains(plain.dropRate) && plain.imbalance >= 1 - 1e-9)
  }

  @Test func memoryAddsUpToTheParameters() throws {
    let shape = try ModelShape(
      expertCount: 16, expertsPerToken: 2, hiddenSize: 64, feedForwardSize: 96, layerCount: 3,
      sharedFeedForwardSize: 32, vocabularySize: 256)
    #expect(
      shape.parameters == 3 * (16 * 3 * 64 * 96 + 16 * 64 + 4 * 64 * 64 + 2 * 64 + 3 * 64 * 32) + 256 * 64)
    for split in [
      Split(expertParallel: 1), Split(expertParallel: 8), Split(expertParallel: 4, dataParallel: 2),
      Split(expertParallel: 4, tensorParallel: 3),
    ] {
      let group = split.expertParallel * split.tensorParallel
      let own = MemoryEstimate.parameterCount(shape, split) - shape.sharedParameters
      #expect(own * group == shape.parameters - shape.sharedParameters, "\(split)")
      let machines = try cluster(hosts: split.rankCount)
      var step = Workload(tokenCount: 1200)
      let memory = try Planner(model: shape, workload: step, cluster: machines, load: .uniform).predict(split)
        .memory
      let count = Double(MemoryEstimate.parameterCount(shape, split))
      #expect(
        memory.parameters == 4 * count && memory.gradients == 4 * count && memory.optimizer == 8 * count)
      #expect(memory.masters == 0)
      step.parameterBytes = 2
      step.recomputes = true
      let narrow = try Planner(model: shape, workload: step, cluster: machines, load: .uniform).predict(split)
        .memory
      #expect(narrow.parameters == 2 * count && narrow.masters == 4 * count)
      #expect(narrow.activations < memory.activations)
    }
    // An E that EP does not divide: the fullest rank has ⌈E/EP⌉.
    #expect(
      MemoryEstimate.parameterCount(shape, Split(expertParallel: 5)) - shape.sharedParameters
        == 3 * 4 * shape.expertParameters)
  }

  @Test func logitsNeedMemory() throws {
    func activations(_ vocabulary: Int) throws -> Double {
      let shape = try ModelShape(
        expertCount: 4, expertsPerToken: 1, hiddenSize: 32, feedForwardSize: 32, vocabularySize: vocabulary)
      return try Planner(
        model: shape, workload: Workload(tokenCount: 600), cluster: cluster(hosts: 2), load: .uniform
      ).predict(Split(expertParallel: 2)).memory.activations
    }
    let (with, without) = (try activations(1000), try activations(0))
    #expect(with - without == 4 * 300 * 1000)
  }

  @Test func tenThousandRanks() throws {
    let shape = try model(experts: 256, top: 8, hidden: 1024, inner: 512, layers: 4)
    let machines = try cluster(hosts: 1250, ranks: 8, link: Link(latency: 5e-6, bandwidth: 1e10))
    let planner = try Planner(
      model: shape, workload: Workload(tokenCount: 10_000_000), cluster: machines,
      load: .zipf(exponent: 0.5, seed: 1))
    let prediction = try planner.predict(Split(expertParallel: 40, dataParallel: 250, overlap: 4))
    #expect(prediction.seconds.isFinite && prediction.imbalance > 1)
    // A group of 40 spans five hosts, so a token has a chance of 4/5 to leave its own.
    #expect(prediction.traffic[.rows].between > 3 * prediction.traffic[.rows].inside)
  }

  @Test func searchFindsEverySplitThatFits() throws {
    let shape = try model(experts: 4, top: 1, hidden: 64, inner: 96)
    var machines = try cluster(hosts: 12)
    func search(
      _ machines: Cluster, ep: Int? = nil, overlap: Int? = 1
    ) throws -> Planner.Outcome {
      try Planner(model: shape, workload: Workload(tokenCount: 1200), cluster: machines, load: .uniform)
        .search(
          expertParallel: ep, overlap: overlap)
    }
    let all = try search(machines)
    // TP 1, 2, 3, 4 and 6 divide 12 and 96; EP divides 12/TP and is at most 4.
    let splits = Set(all.ranked.map { [$0.split.tensorParallel, $0.split.expertParallel] })
    #expect(
      splits == [
        [1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [2, 3], [3, 1], [3, 2], [3, 4], [4, 1], [4, 3],
        [6, 1],
        [6, 2],
      ])
    #expect(all.rejected.isEmpty && all.ranked.allSatisfy { $0.split.rankCount == 12 })
    #expect(zip(all.ranked, all.ranked.dropFirst()).allSatisfy { $0.seconds <= $1.seconds })
    #expect(try search(machines, ep: 3).ranked.allSatisfy { $0.split.expertParallel == 3 })
    #expect(try search(machines, ep: 2, overlap: nil).best.count == 4)
    machines.memory = all.ranked.map(\.memory.total).sorted()[7]
    let some = try search(machines)
    #expect(some.ranked.count + some.rejected.count == 14 && some.ranked.count >= 8)
    #expect(
      some.rejected.allSatisfy { $0.reason.contains("needs") && $0.prediction.memory.total > machines.memory }
    )
    #expect(throws: PlanError.self) { try search(machines, ep: 5) }
  }

  @Test func splitsAreChecked() throws {
    let planner = try Planner(
      model: model(experts: 6, inner: 32), workload: Workload(tokenCount: 100), cluster: cluster(hosts: 12),
      load: .uniform)
    for (split, part) in [
      (Split(expertParallel: 4), "4 × 1 × 1 = 4, expected the cluster's 12"),
      (Split(expertParallel: 12), "EP is 12, more than the 6 experts"),
      (Split(expertParallel: 4, tensorParallel: 3), "TP is 3, which does not divide F = 32"),
      (Split(expertParallel: 0, dataParallel: 12), "EP is 0"),
      (Split(expertParallel: 6, dataParallel: 2, overlap: 65), "65"),
      (
        Split(expertParallel: 1 << 16, dataParallel: 1 << 17, tensorParallel: 1 << 17),
        "expected the cluster's 12"
      ),
    ] {
      do {
        _ = try planner.predict(split)
        Issue.record("\(split) was planned")
      } catch {
        #expect("\(error)".contains(part), "\(error)")
      }
    }
    // Six experts on four ranks: one or two each.
    #expect(try planner.predict(Split(expertParallel: 4, dataParallel: 3)).imbalance > 1.3)
  }

  @Test func drawingIsSoundAndNamesEverySplit() throws {
    let planner = try Planner(
      model: model(experts: 16), workload: Workload(tokenCount: 1000), cluster: cluster(hosts: 4),
      load: .uniform)
    let outcome = try planner.search()
    let svg = PlanDrawing(outcome.best, title: "a <plan> & more").svg
    let document = try XMLDocument(xmlString: svg)
    #expect(document.rootElement()?.name == "svg")
    #expect(svg.contains("a &lt;plan&gt; &amp; more") && svg.contains("prefers-color-scheme:dark"))
    for prediction in outcome.best { #expect(svg.contains(">\(prediction.split)<")) }
    #expect(!svg.contains("nan") && !svg.contains("inf\""))
  }
}
