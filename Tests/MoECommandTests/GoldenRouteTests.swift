import Foundation
import MoE
import MoECheckpoints
import MoECore
import Testing

extension RoutingPolicy.Choice.Second {
  /// Whether random numbers decide whether the second expert is taken.
  fileprivate var isRandom: Bool {
    switch self {
    case .random, .randomAfterDropping: true
    case .best, .sampled, .above: false
    }
  }
}

/// Presets against what the published systems choose: the files of Tests/Fixtures/routing, whose scripts run the systems
/// or restate them.
@Suite struct GoldenRouteTests {
  /// The options of a case, by the names of the scripts.
  struct Case: Decodable, CustomStringConvertible {
    var seed: UInt64
    var tokenCount: Int
    var expertCount: Int
    var expertsPerToken: Int
    var temperament: String?
    var capacityFactor: Double?
    var minCapacity: Int?
    var capacity: Int?
    var noDrop: Bool?
    var dropPolicy: String?
    var groupSize: Int?
    var maskSeed: UInt64?
    var noiseSeed: UInt64?
    var noRts: Bool?
    var noSecondSampling: Bool?
    var noisyPolicy: String?
    var temperature: Float?
    var secondPolicy: String?
    var secondThreshold: Float?
    var gateNoise: Float?
    var noiseStd: Float?
    var normalize: Int?
    var normalizeFirst: Int?
    var groups: Int?
    var groupsSelected: Int?
    var biasSeed: UInt64?
    var scale: Float?
    var pNorm: Float?
    var training: Bool?
    var hidden: Int?
    var slots: Int?
    var slotSeed: UInt64?
    var score: String?
    var capacityMultiple: Int?
    var capacityRounding: String?

    /// Whether the preset has the options of the case: V-MoE's other roundings of a capacity and Megatron's other scores
    /// are policies, not presets, and noise of the assignments' files is drawn otherwise.
    var isOfPreset: Bool {
      capacityMultiple ?? 4 == 4 && capacityRounding ?? "ceil" == "ceil" && score ?? "softmax" == "softmax"
        && (noiseStd == nil || noiseSeed == nil)
    }

    var description: String {
      "seed \(seed), T \(tokenCount), E \(expertCount), K \(expertsPerToken), \(temperament ?? "")"
    }

    /// The logits of the case, drawn as the scripts draw them.
    func logits() throws -> Matrix {
      let expertCount = expertCount * (slots ?? 1)
      var generator = SeededGenerator(seed: seed)
      var values = (0..<tokenCount * expertCount).map { _ in generator.normal() }
      switch temperament {
      case "sharp": for index in values.indices { values[index] *= 4 }
      case "ties": for index in values.indices { values[index] = (values[index] * 2).rounded() / 2 }
      case "skewed": for index in stride(from: 0, to: values.count, by: expertCount) { values[index] += 3 }
      case "underflow":
        for index in stride(from: expertCount - 1, to: values.count, by: expertCount) { values[index] -= 200 }
      default: break
      }
      return try Matrix(rows: tokenCount, columns: expertCount, elements: values)
    }

    var mask: [Bool]? {
      maskSeed.map { seed in
        var generator = SeededGenerator(seed: seed)
        return (0..<tokenCount).map { _ in generator.uniform() >= 0.2 }
      }
    }

    var selectionBias: [Float]? {
      biasSeed.map { seed in
        var generator = SeededGenerator(seed: seed)
        return (0..<expertCount).map { _ in generator.normal() }
      }
    }

    var settings: RoutingPreset.Settings {
      var settings = RoutingPreset.Settings(expertCount: expertCount)
      settings.expertsPerToken = expertsPerToken
      settings.capacityFactor = capacityFactor
      settings.minimumCapacity = minCapacity
      settings.capacity = capacity
      settings.dropsNothing = noDrop == true
      settings.dropOrder = dropPolicy.map { $0 == "probs" ? .lowestWeight : .latest }
      settings.groupSize = groupSize
      settings.hasRandomTokenSelection = noRts != true
      settings.hasSecondSampling = noSecondSampling != true
      settings.first =
        noisyPolicy == "RSample" ? .sampled : temperature.map { .sampledWithTemperature($0) }
      settings.logitNoise = gateNoise ?? noiseStd
      settings.isNormalized = (normalize ?? normalizeFirst).map { $0 == 1 }
      if let groups, let groupsSelected { settings.groups = (groups, groupsSelected) }
      settings.scale = scale
      settings.normPower = pNorm
      settings.second =
        switch secondPolicy {
        case "all": .best
        case "none": .above(1)
        case "sampling": .sampled
        case "random": .random(threshold: secondThreshold ?? 0.5)
        case "threshold": .above(secondThreshold ?? 0.2)
        default: nil
        }
      return settings
    }
  }

  /// Reads the scripts' names, which are T, E and K, and words joined by underscores.
  private static var decoder: JSONDecoder {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .custom { keys in
      let name = keys.last!.stringValue
      let letters = ["T": "tokenCount", "E": "expertCount", "K": "expertsPerToken"]
      let words = name.split(separator: "_")
      let joined = words.dropFirst().reduce(String(words.first ?? "")) { $0 + $1.capitalized }
      return Name(stringValue: letters[name] ?? joined)
    }
    return decoder
  }

  private struct Name: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  /// The presets whose files hold tokens that choose.
  static let names = [
    "switch", "switch-flaxformer", "switch-flaxformer-bpr", "switch-transformers", "st-moe", "st-moe-bpr",
    "mesh-top2", "mesh-ntlb", "mesh-switch-max", "gshard-top2", "gshard-top2-renormalised", "glam",
    "deepspeed-top1", "deepspeed-top2", "deepspeed-topk", "tutel", "tutel-bpr", "megatron",
    "megatron-pre-softmax", "megatron-sigmoid", "megatron-sqrtsoftplus", "megablocks", "fastmoe-naive",
    "fastmoe-switch", "fastmoe-gshard", "vmoe", "vmoe-bpr", "nllb-moe", "nllb-moe-bpr",
  ]

  @Test(arguments: names)
  func routesAsTheOriginal(_ name: String) throws {
    let file = try SafetensorsFile(path: fixtures.appending(path: "routing/\(name).safetensors").path)
    let json = try #require(file.metadata["cases"])
    let cases = try Self.decoder.decode([Case].self, from: Data(json.utf8))
    let ids = try file.bytes(named: "expert_ids").map { Int32(Int8(bitPattern: $0)) }
    let slots = try shorts("slots", of: file)
    let weights = try file.floats(named: "weights")
    let capacities = try file.integers(named: "capacity")
    let losses = try file.floats(named: "auxiliary_loss")
    let zLosses = try? file.floats(named: "z_loss")
    let preset = try #require(RoutingPreset.named(name))
    var offset = 0
    for (index, example) in cases.enumerated() {
      let range = offset..<offset + example.tokenCount * example.expertsPerToken
      offset = range.upperBound
      // Where all other probabilities underflow, lingvo takes expert 0 twice; our two experts are always different.
      if name == "glam" || name.hasPrefix("gshard") || name == "mesh-top2",
        hasTwins(ids[range], k: example.expertsPerToken)
      {
        continue
      }
      let logits = try example.logits()
      var policy = preset.policy(example.settings)
      if example.noiseSeed == nil {
        policy.noise.logits = .none
        if policy.choice.second.isRandom { policy.choice.second = .best }
      }
      let noise = example.noiseSeed.map { RouterNoise(seed: $0) }
      let comment: Comment = "\(name), case \(index): \(example)"
      for set in InstructionSet.supported {
        let execution = try Execution(instructionSet: set, threadCount: 2)
        let record = try policy.route(
          logits: logits, expertsPerToken: example.expertsPerToken, selectionBias: example.selectionBias,
          mask: preset.masksLossesOnly ? nil : example.mask, noise: noise, execution: execution)
        try #require(record.expertIDs.map { max($0, -1) } == Array(ids[range]), comment)
        try #require(record.slots == Array(slots[range]), comment)
        // NLLB that normalises before dropping forgets that for a random second expert; ours does not.
        if name.hasPrefix("nllb"), example.normalizeFirst == 1, policy.choice.second.isRandom { continue }
        let errors = zip(record.expertWeights, weights[range]).map { abs($0 - $1) }
        try #require(errors.max() ?? 0 <= 1e-6, comment)
        // Tutel reports the load of the busiest expert for factors that do not limit it.
        if example.capacityFactor ?? 1 > 0 {
          let limit = record.capacity.map { Int32(clamping: $0) }
          try #require(capacities[index] < 0 ? record.droppedCount == 0 : limit == capacities[index], comment)
        }
        let found = try policy.losses(
          logits: logits, record: record, mask: example.mask, groupSize: example.groupSize, noise: noise,
          execution: execution)
        // NLLB adds the noise of the second choice to the logits in place, so that its loss sees it too; ours does not.
        let seesNoise = name.hasPrefix("nllb") && policy.choice.second == .sampled
        if policy.loadBalance.choices != .none, !seesNoise {
          try #require(
            abs(found.loadBalance - Double(losses[index])) <= 2e-6 * max(1, abs(found.loadBalance)), comment)
        }
        if let zLosses {
          try #require(abs(found.routerZ - Double(zLosses[index])) <= 2e-6 * max(1, found.routerZ), comment)
        }
      }
    }
    #expect(offset == ids.count)
  }

  /// Rules in which experts or a plan choose. Files of expert choice list each token's experts, best weight first.
  @Test(arguments: [
    "expert-choice", "mesh-expert-choice", "vmoe-expert-choice", "megatron-sinkhorn", "base",
    "quantile-balanced",
  ])
  func assignsAsTheOriginal(_ name: String) throws {
    let file = try SafetensorsFile(path: fixtures.appending(path: "routing/\(name).safetensors").path)
    let cases = try Self.decoder.decode([Case].self, from: Data(#require(file.metadata["cases"]).utf8))
    let ids = try file.bytes(named: "expert_ids").map { Int32(Int8(bitPattern: $0)) }
    let slots = try shorts("slots", of: file)
    let weights = try file.floats(named: "weights")
    let undefined = try file.bytes(named: "undefined")
    let preset = try #require(RoutingPreset.named(name))
    var offset = 0
    for (index, example) in cases.enumerated() {
      let range = offset..<offset + example.tokenCount * example.expertsPerToken
      offset = range.upperBound
      // Sinkhorn that does not end by itself has other numbers after another number of rounds.
      if name == "megatron-sinkhorn", undefined[index] & 16 != 0 { continue }
      if !example.isOfPreset { continue }
      // In the originals padding of the score 0 also comes before real tokens whose score underflowed.
      if name == "expert-choice", example.mask != nil, example.temperament == "underflow" { continue }
      let choosesTokens = name.hasSuffix("expert-choice")
      var settings = example.settings
      if choosesTokens { settings.expertsPerToken = 1 }
      var policy = preset.policy(settings)
      if example.noiseSeed == nil { policy.noise.logits = .none }
      let isTraining = example.training == true || example.noiseSeed != nil
      let noise = isTraining ? RouterNoise(seed: example.noiseSeed ?? 0) : nil
      let comment: Comment = "\(name), case \(index): \(example)"
      for set in InstructionSet.supported {
        let record = try policy.route(
          logits: example.logits(), expertsPerToken: choosesTokens ? 1 : example.expertsPerToken,
          selectionBias: name == "quantile-balanced" ? example.selectionBias?.map { -$0 } : nil,
          mask: example.mask, noise: noise,
          execution: Execution(instructionSet: set, threadCount: 2))
        // Experts that run out of real tokens take padding with the weight 0 in the originals; ours take none.
        let isReal = { (index: Int) in
          example.mask?[(index - range.lowerBound) / example.expertsPerToken] ?? true
        }
        try #require(record.expertIDs == range.map { isReal($0) ? ids[$0] : -1 }, comment)
        try #require(record.slots == range.map { isReal($0) ? slots[$0] : -1 }, comment)
        let errors = zip(record.expertWeights, weights[range]).map { abs($0 - $1) }
        try #require(errors.max() ?? 0 <= 1e-6, comment)
      }
    }
    #expect(offset == ids.count)
  }

  /// The weights of Soft MoE, from logits. The cases whose logits are cosines of inputs and slots are left out.
  @Test func softAssignmentIsTheOriginals() throws {
    let file = try SafetensorsFile(path: fixtures.appending(path: "routing/soft-moe.safetensors").path)
    let cases = try Self.decoder.decode([Case].self, from: Data(#require(file.metadata["cases"]).utf8))
    let (dispatch, combine) = (try file.floats(named: "dispatch"), try file.floats(named: "combine"))
    var offset = 0
    for (index, example) in cases.enumerated() {
      let range = offset..<offset + example.tokenCount * example.expertCount * (example.slots ?? 1)
      offset = range.upperBound
      if example.hidden != nil { continue }
      for set in InstructionSet.supported {
        let soft = try SoftAssignment(
          logits: example.logits(), mask: example.mask,
          execution: Execution(instructionSet: set, threadCount: 2))
        for (found, expected) in [(soft.dispatch, dispatch), (soft.combine, combine)] {
          let errors = zip(found.elements, expected[range]).map { abs($0 - $1) }
          try #require(errors.max() ?? 0 <= 1e-6, "case \(index): \(example)")
        }
      }
    }
    #expect(offset == dispatch.count)
  }

  /// Returns the elements of an I16 tensor.
  private func shorts(_ name: String, of file: SafetensorsFile) throws -> [Int32] {
    let pairs = try file.bytes(named: name)
    return stride(from: 0, to: pairs.count, by: 2).map {
      Int32(Int16(bitPattern: UInt16(pairs[$0]) | UInt16(pairs[$0 + 1]) << 8))
    }
  }

  /// Whether a token has an expert twice.
  private func hasTwins(_ ids: [Int32].SubSequence, k: Int) -> Bool {
    stride(from: ids.startIndex, to: ids.endIndex, by: k).contains { first in
      let chosen = ids[first..<first + k].filter { $0 >= 0 }
      return Set(chosen).count < chosen.count
    }
  }
}
