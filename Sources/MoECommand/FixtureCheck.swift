import Foundation
import MoE
import MoECheckpoints

/// Runs the layers of checkpoint folders as `moe apply` does, and compares them with the folders' expected outputs.
struct FixtureCheck {
  let folder: String
  let execution: Execution

  /// Largest relative RMS difference of one block from the output that transformers computed in fp32.
  static let bound = 2e-6

  /// Prints the table and returns the number of families that are out of bounds.
  func run() throws -> Int {
    guard let entries = try? FileManager.default.contentsOfDirectory(atPath: folder) else {
      throw CheckpointError(folder, "is not a folder that can be read")
    }
    let names = entries.sorted().filter {
      FileManager.default.fileExists(atPath: "\(folder)/\($0)/expected.safetensors")
    }
    guard !names.isEmpty else {
      throw CheckpointError(folder, "no folder in it has an expected.safetensors")
    }
    var table = TextTable("family", "layers", "experts", "top-k", "error", "routes off", "tokens/s", "")
    var failures = 0
    for name in names {
      let checkpoint = try Checkpoint(folder: "\(folder)/\(name)")
      let expected = try SafetensorsFile(path: "\(folder)/\(name)/expected.safetensors")
      var worst = 0.0
      var off = 0
      var speed = 0.0
      var configuration: MoEConfiguration?
      for layer in checkpoint.moeLayers {
        let prefix = layer.contains(".") ? layer : "layers.\(layer)"
        let input = try ActivationFile(path: expected.path, tensor: "\(prefix).input").activations()
        let block = try checkpoint.layer(layer).packed(.float32, execution)
        let (output, record) = try block(input, execution: execution)
        configuration = block.configuration
        let target = try expected.floats(named: "\(prefix).output").map(Double.init)
        worst = max(worst, relativeRMS(output.tokens.elements, target))
        off += routesOff(record, try expected.integers(named: "\(prefix).expert_ids"))
        speed = max(speed, try tokensPerSecond(block, input))
      }
      let isRight = worst <= Self.bound && off == 0
      if !isRight { failures += 1 }
      table.add(
        name, "\(checkpoint.moeLayers.count)", "\(configuration?.expertCount ?? 0)",
        "\(configuration?.expertsPerToken ?? 0)", scientific(worst), "\(off)", fixed(speed, 0),
        isRight ? "ok" : "WRONG")
    }
    table.write()
    StandardStream.output.line(
      failures == 0
        ? "all \(names.count) within \(scientific(Self.bound)) of the expected outputs"
        : "\(failures) of \(names.count) are out of bounds")
    return failures
  }

  /// Returns the number of tokens whose set of experts differs.
  private func routesOff(_ record: RoutingRecord, _ expected: [Int32]) -> Int {
    let width = record.expertsPerToken
    return (0..<record.tokenCount).count { token in
      let range = token * width..<(token + 1) * width
      return Set(record.expertIDs[range]) != Set(expected[range])
    }
  }

  /// Returns the speed of the layer on 1024 tokens, which repeat the input's; the best of three passes.
  private func tokensPerSecond(_ layer: MoELayer, _ input: Activations) throws -> Double {
    let count = 1024
    var tokens = Matrix(rows: count, columns: layer.configuration.hiddenSize)
    for row in 0..<count {
      for column in 0..<tokens.columns { tokens[row, column] = input.tokens[row % input.tokenCount, column] }
    }
    let batch = try Activations(shape: [count, tokens.columns], tokens: tokens)
    var output = batch
    var record = RoutingRecord()
    var workspace = Workspace()
    var best = Double.infinity
    for _ in 0..<3 {
      let start = Date()
      try layer.forward(batch, into: &output, record: &record, workspace: &workspace, execution: execution)
      best = min(best, Date().timeIntervalSince(start))
    }
    return Double(count) / best
  }
}
