import MoE
import MoECheckpoints

/// Logits of a file, with the selection bias and the mask that the options name.
struct RouteInput {
  private let path: String
  private let name: String
  private let logits: Matrix
  private let selectionBias: [Float]?
  private let mask: [Bool]?
  private let tokenIDs: [Int32]?

  init(_ path: String, _ rule: RouteOptions) throws {
    let file = try SafetensorsFile(path: path)
    self.path = file.path
    name = file.names.contains("logits") || file.names.count != 1 ? "logits" : file.names[0]
    try file.require(name)
    let logits = try file.matrix(named: name)
    self.logits = logits
    selectionBias = try rule.selectionBias.map {
      try Self.readBias($0, of: file, expertCount: logits.columns)
    }
    tokenIDs = try rule.tokenIds.map { name in
      try file.require(name)
      let ids = try file.integers(named: name)
      guard ids.count == logits.rows else {
        throw CheckpointError(
          file.path,
          "tensor \(quoted(name)) has \(ids.count) token ids, expected \(logits.rows), one for each token")
      }
      return ids
    }
    mask = try rule.mask.map { try Self.readMask($0, of: file, tokenCount: logits.rows) }
  }

  /// Reads the tensor that is added to the scores, one number per expert.
  private static func readBias(_ name: String, of file: SafetensorsFile, expertCount: Int) throws -> [Float] {
    try file.require(name)
    let bias = try file.floats(named: name)
    let shape = try file.tensor(name).shape
    guard shape == [expertCount] else {
      throw CheckpointError(
        file.path,
        "tensor \(quoted(name)) has shape \(shape), expected [\(expertCount)], one bias for each expert")
    }
    if let expert = bias.firstIndex(where: { !$0.isFinite }) {
      throw CheckpointError(
        file.path, "tensor \(quoted(name)) has \(bias[expert]) for expert \(expert), expected a number")
    }
    return bias
  }

  /// Reads the tensor that tells real tokens from padding: integers or floats, 0 for padding.
  private static func readMask(_ name: String, of file: SafetensorsFile, tokenCount: Int) throws -> [Bool] {
    try file.require(name)
    let shape = try file.tensor(name).shape
    guard shape.reduce(1, *) == tokenCount, shape.count <= 2 else {
      throw CheckpointError(
        file.path,
        "tensor \(quoted(name)) has shape \(shape), expected [\(tokenCount)], one number for each token")
    }
    if let numbers = try? file.floats(named: name) { return numbers.map { $0 != 0 } }
    // Integers and Booleans of any width: a token whose bytes are all 0 is padding.
    let bytes = try file.bytes(named: name)
    let width = bytes.count / max(tokenCount, 1)
    return (0..<tokenCount).map { token in bytes[token * width..<(token + 1) * width].contains { $0 != 0 } }
  }

  /// Computes the weights of Soft MoE.
  func softAssignment(_ execution: Execution) throws -> SoftAssignment {
    do { return try SoftAssignment(logits: logits, mask: mask, execution: execution) } catch {
      throw CheckpointError("\(path): tensor \(quoted(name))", "\(error)")
    }
  }

  /// Routes the logits by a preset.
  func route(by preset: RoutingPreset, _ rule: RouteOptions, _ execution: Execution) throws -> RoutedLogits {
    let settings = rule.settings(of: preset, expertCount: logits.columns)
    var policy = preset.policy(settings)
    guard policy.noise.logits != .learned || !rule.train else {
      throw CheckpointError(
        path,
        "--policy \(preset.name) learns the size of its noise from tokens, and logits have none; leave --train out"
      )
    }
    if !rule.train { policy.noise.logits = .none }
    // Rules that are random at evaluation too need a seed; noise of training is in the policy only with --train.
    if !rule.train { policy.choice.first = .best }
    let noise = RouterNoise(seed: rule.seed)
    let expertsPerToken = preset.expertsPerToken(settings)
    let mask = preset.options.contains(.mask) ? mask : nil
    guard policy.assignment != .hash || tokenIDs != nil else {
      throw CheckpointError(
        path, "--policy \(preset.name) hashes token ids; name their tensor by --token-ids")
    }
    let given =
      policy.assignment == .hash
      ? tokenIDs.map { TokenHash(seed: rule.seed).experts(of: $0, expertCount: logits.columns) } : nil
    // A plan decides in training only.
    let isPlan = policy.assignment == .sinkhorn || policy.assignment == .balanced
    let samples = policy.samplesInTrainingOnly || isPlan && !rule.train
    do {
      let record = try policy.route(
        logits: logits, expertsPerToken: expertsPerToken,
        selectionBias: preset.options.contains(.selectionBias) ? selectionBias : nil, givenExperts: given,
        mask: preset.masksLossesOnly ? nil : mask, noise: samples ? nil : noise,
        execution: execution)
      let losses = try policy.losses(
        logits: logits, record: record, selectionBias: selectionBias, mask: mask,
        groupSize: settings.groupSize, noise: noise,
        execution: execution)
      return RoutedLogits(name: preset.name, policy: policy, record: record, losses: losses)
    } catch {
      throw CheckpointError("\(path): tensor \(quoted(name))", "\(error)")
    }
  }
}

extension RoutingPolicy {
  /// SparseMixer samples in training; given logits are routed as at evaluation.
  fileprivate var samplesInTrainingOnly: Bool { if case .sparseMixer = scoring { true } else { false } }
}
