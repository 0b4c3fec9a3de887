import Foundation
import MoECheckpoints
import Testing

/// `moe apply` computes the output that transformers computed from a checkpoint.
@Suite struct ApplyTests {
  /// The relative RMS error of an output, and the error of a weight: sums of a few dozen products, each rounded
  /// to 2⁻²⁴.
  private static let outputTolerance = 2e-6
  private static let weightTolerance: Float = 1e-6
  /// bf16 keeps 8 bits, so that a rounding changes a number by at most 2⁻⁹ of it, and an expert rounds four: its
  /// input, the hidden row and both weights. They are independent of one another, so the sum is less than 2⁻⁷.
  private static let bfloat16Tolerance = 0x1p-7

  /// One block of a fixture, and where its tensors are.
  private struct Block {
    var checkpoint: String
    var name: String
    var expected: SafetensorsFile
    private var prefix: String { name.contains(".") ? name : "layers.\(name)" }

    static func all(of fixture: String) throws -> [Block] {
      let folder = fixtures.appending(path: fixture).path
      let expected = try SafetensorsFile(path: "\(folder)/expected.safetensors")
      let inputs = expected.names.filter { $0.hasSuffix(".input") }
      #expect(!inputs.isEmpty)
      return inputs.map {
        Block(
          checkpoint: folder, name: $0.replacing("layers.", with: "").replacing(".input", with: ""),
          expected: expected)
      }
    }

    /// Runs `moe apply` on the block's input.
    func apply(to output: URL, _ options: String...) throws -> SafetensorsFile {
      let run = try moe(
        [
          "apply", checkpoint, "--layer", name, "--input", expected.path, "--tensor", "\(prefix).input",
          "--output", output.path,
        ] + options)
      expectSuccess(run, "layer \(name) \(options)")
      #expect(run.output.split(separator: "\n").count == 1 && run.output.contains(" layer \(name): "))
      return try SafetensorsFile(path: output.path)
    }

    func floats(_ suffix: String) throws -> [Float] { try expected.floats(named: "\(prefix).\(suffix)") }
    func shape(_ suffix: String) throws -> [Int] { try expected.tensor("\(prefix).\(suffix)").shape }
    func ids() throws -> [Int32] { try expected.integers(named: "\(prefix).expert_ids") }
  }

  /// Expects the experts of every token as a set, and their weights; transformers has no order among them.
  private func expectRoutes(_ found: SafetensorsFile, _ block: Block, _ comment: Comment) throws {
    let shape = try block.shape("expert_ids")
    #expect(try found.tensor("expert_ids").shape == shape, comment)
    #expect(try found.tensor("expert_weights").shape == shape, comment)
    let (ids, weights) = (try found.integers(named: "expert_ids"), try found.floats(named: "expert_weights"))
    let (theirIDs, theirWeights) = (try block.ids(), try block.floats("expert_weights"))
    for token in 0..<shape[0] {
      let slots = token * shape[1]..<(token + 1) * shape[1]
      let ours = Dictionary(uniqueKeysWithValues: zip(ids[slots], weights[slots]))
      let theirs = Dictionary(uniqueKeysWithValues: zip(theirIDs[slots], theirWeights[slots]))
      #expect(Set(ours.keys) == Set(theirs.keys), "token \(token), \(comment)")
      for (expert, weight) in theirs {
        let difference = abs((ours[expert] ?? .nan) - weight)
        #expect(difference <= Self.weightTolerance, "token \(token), expert \(expert), \(comment)")
      }
    }
  }

  @Test(arguments: fixtureNames)
  func transformersAgrees(_ fixture: String) throws {
    let sets = try supportedISAs()
    try withTemporaryFolder { folder in
      for block in try Block.all(of: fixture) {
        for set in sets {
          let found = try block.apply(to: folder.appending(path: "y"), "--isa", set)
          #expect(found.names.sorted() == ["expert_ids", "expert_weights", "output"])
          #expect(try found.tensor("output").shape == block.shape("input"))
          let error = relativeRMS(try found.floats(named: "output"), try block.floats("output"))
          #expect(error <= Self.outputTolerance, "layer \(block.name) on \(set): \(error)")
          try expectRoutes(found, block, "layer \(block.name) on \(set)")
        }
      }
      #expect(try names(in: folder) == ["y"], "nothing else is left behind")
    }
  }

  @Test(arguments: fixtureNames)
  func bfloat16IsClose(_ fixture: String) throws {
    let sets = try supportedISAs()
    try withTemporaryFolder { folder in
      for block in try Block.all(of: fixture) {
        for set in sets {
          let found = try block.apply(to: folder.appending(path: "y"), "--isa", set, "--dtype", "bf16")
          let error = relativeRMS(try found.floats(named: "output"), try block.floats("output"))
          #expect(error <= Self.bfloat16Tolerance, "layer \(block.name) on \(set): \(error)")
          try expectRoutes(found, block, "the router computes in fp32: layer \(block.name) on \(set)")
        }
      }
    }
  }

  @Test(arguments: fixtureNames)
  func threadsDoNotChangeABit(_ fixture: String) throws {
    try withTemporaryFolder { folder in
      for block in try Block.all(of: fixture) {
        for type in ["f32", "bf16"] {
          let files = try (1...3).map { threads in
            let file = folder.appending(path: "\(threads)")
            _ = try block.apply(to: file, "--threads", "\(threads)", "--dtype", type)
            return try Data(contentsOf: file)
          }
          #expect(files[0] == files[1] && files[0] == files[2], "layer \(block.name) in \(type)")
        }
      }
    }
  }

  /// The file is the same to the byte, also where experts are replicated and ranks have no tokens.
  @Test(arguments: fixtureNames)
  func ranksDoNotChangeAByte(_ fixture: String) throws {
    try withTemporaryFolder { folder in
      for block in try Block.all(of: fixture) {
        let one = folder.appending(path: "1")
        _ = try block.apply(to: one)
        for ranks in [2, 3, 4, 40] {
          let file = folder.appending(path: "\(ranks)")
          _ = try block.apply(to: file, "--ranks", "\(ranks)")
          #expect(
            try Data(contentsOf: file) == Data(contentsOf: one), "layer \(block.name) on \(ranks) ranks")
        }
      }
    }
  }

  /// Ranks of other processes are for builds with MPI, which these tests are not of.
  @Test func ranksOfMPIAreRefusedWithoutIt() throws {
    try withTemporaryFolder { folder in
      let block = try #require(try Block.all(of: "mixtral").first)
      let arguments = [
        "apply", block.checkpoint, "--layer", block.name, "--input", block.expected.path, "--tensor",
        "layers.\(block.name).input", "--output", folder.appending(path: "y").path, "--mpi",
      ]
      let information = try moe("info").output
      #if !MPI
        expectFailure(
          try moe(arguments), saying: ["without MPI", "build it with: swift build -c release --traits MPI"])
        #expect(information.contains("MPI      not in this build"))
      #else
        #expect(information.contains("MPI      Open MPI v"))
      #endif
      expectUsageError(try moe(arguments + ["--ranks", "2"]), saying: "--ranks starts ranks in this process")
      #expect(try names(in: folder).isEmpty)
    }
  }

  // MARK: Shapes

  /// A file with a lone tensor needs no `--tensor`, and its shape is the output's.
  @Test(arguments: [[20], [1, 20], [7, 20], [0, 20], [2, 0, 20], [0, 3, 20], [2, 1, 3, 20]])
  func outputHasTheShapeOfTheInput(_ shape: [Int]) throws {
    try withTemporaryFolder { folder in
      let (input, output) = (folder.appending(path: "x"), folder.appending(path: "y"))
      let tokenCount = shape.dropLast().reduce(1, *)
      var tensor = Tensor(tokenCount, 20)
      tensor.shape = shape
      try Data(safetensors(["hidden": tensor])).write(to: input)
      let run = try moe(
        "apply", fixtures.appending(path: "mixtral").path, "--layer", "1", "--input", input.path, "--output",
        output.path)
      expectSuccess(run)
      #expect(run.output.contains("layer 1: \(tokenCount) tokens, top-2 of 6 experts"))
      let found = try SafetensorsFile(path: output.path)
      #expect(try found.tensor("output").shape == shape)
      #expect(try found.tensor("expert_ids").shape == [tokenCount, 2])
      #expect(try found.tensor("expert_weights").shape == [tokenCount, 2])
    }
  }

  @Test func outputReplacesNoInput() throws {
    try withTemporaryFolder { folder in
      let file = folder.appending(path: "x")
      try Data(safetensors(["hidden": Tensor(3, 20)])).write(to: file)
      let arguments = [
        "apply", fixtures.appending(path: "mixtral").path, "--layer", "0", "--input", file.path, "--output",
        file.path,
      ]
      let before = try Data(contentsOf: file)
      expectFailure(try moe(arguments), saying: [file.path, "is the input", "would be overwritten"])
      #expect(try Data(contentsOf: file) == before)
      #expect(try names(in: folder) == ["x"])
    }
  }
}
