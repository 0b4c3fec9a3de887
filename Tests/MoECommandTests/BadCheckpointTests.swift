import Foundation
import MoECheckpoints
import Testing

/// Checkpoints that `moe apply` must refuse: one sentence that names the file and what is wrong with it, no
/// output, nothing left behind.
@Suite struct BadCheckpointTests {
  /// A copy of a fixture that may be damaged, and the layer to run.
  struct Scene {
    let checkpoint: URL

    /// Writes a file of the checkpoint, or removes it.
    func set(_ file: String, to bytes: [UInt8]?) throws {
      let url = checkpoint.appending(path: file)
      if let bytes { try Data(bytes).write(to: url) } else { try FileManager.default.removeItem(at: url) }
    }

    /// Changes a file byte by byte.
    func bytes(of file: String, _ change: (inout [UInt8]) -> Void) throws {
      var bytes = Array(try Data(contentsOf: checkpoint.appending(path: file)))
      change(&bytes)
      try set(file, to: bytes)
    }

    /// Changes the object in a JSON file.
    func object(_ file: String, _ change: (inout [String: Any]) -> Void) throws {
      let data = try Data(contentsOf: checkpoint.appending(path: file))
      var object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
      change(&object)
      try set(file, to: Array(try JSONSerialization.data(withJSONObject: object)))
    }

    /// Sets a value of config.json.
    func config(_ key: String, _ value: (any Sendable)?) throws {
      try object("config.json") { $0[key] = value }
    }

    /// Sets the shard of a tensor in the index.
    func shard(_ tensor: String, _ file: String) throws {
      try object("model.safetensors.index.json") { index in
        var map = index["weight_map"] as? [String: Any]
        map?[tensor] = file
        index["weight_map"] = map
      }
    }

    /// Changes the tensors of model.safetensors.
    func tensors(_ change: (inout [String: Tensor]) -> Void) throws {
      let name = "model.safetensors"
      let file = try SafetensorsFile(path: checkpoint.appending(path: name).path)
      var tensors: [String: Tensor] = [:]
      for (name, tensor) in file.tensors {
        tensors[name] = Tensor(
          type: tensor.type.rawValue, shape: tensor.shape, bytes: try file.bytes(named: name))
      }
      change(&tensors)
      try set(name, to: safetensors(tensors))
    }
  }

  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var fixture: String
    var layer: String
    var complaint: [String]
    var damage: @Sendable (Scene) throws -> Void
    var testDescription: String { name }

    init(
      _ name: String, _ fixture: String = "qwen2_moe", layer: String = "1", says complaint: String...,
      damage: @escaping @Sendable (Scene) throws -> Void = { _ in }
    ) {
      (self.name, self.fixture, self.layer, self.complaint) = (name, fixture, layer, complaint)
      self.damage = damage
    }
  }

  private static let expert = "model.layers.1.mlp.experts.3.up_proj.weight"
  private static let shard = "model-00002-of-00003.safetensors"
  private static let index = "model.safetensors.index.json"

  static let cases: [Case] = [
    // config.json
    Case("no config.json", says: "/config.json: cannot be opened", "No such file") {
      try $0.set("config.json", to: nil)
    },
    Case("config that is not JSON", says: "/config.json: ", "expected") {
      try $0.set("config.json", to: Array("hidden_size = 12".utf8))
    },
    Case("config that is a list", says: "/config.json: is not a JSON object") {
      try $0.set("config.json", to: Array("[]".utf8))
    },
    Case("config that ends early", says: "/config.json: ", "its end") {
      try $0.bytes(of: "config.json") { $0.removeLast(20) }
    },
    Case("no model_type", says: "/config.json: “model_type” is missing") { try $0.config("model_type", nil) },
    Case("unknown model_type", says: "/config.json: “model_type” is “bert”", "mixtral, olmoe") {
      try $0.config("model_type", "bert")
    },
    Case("size that is no size", says: "/config.json: “hidden_size” is “12”, expected an integer from 1 to") {
      try $0.config("hidden_size", "12")
    },
    Case(
      "hidden size of another model", says: "/model.safetensors: tensor “model.layers.1.mlp.gate.weight”",
      "shape [6, 12], expected [6, 16]"
    ) { try $0.config("hidden_size", 16) },
    Case("more experts per token than experts", says: "/config.json: top-k is 7, expected 1 to", "experts, 6")
    {
      try $0.config("num_experts_per_tok", 7)
    },
    Case("fp8", "deepseek_v3", says: "/config.json: “quant_method” in “quantization_config” is “fp8”") {
      try $0.config("quantization_config", ["quant_method": "fp8"])
    },
    // Layers
    Case("layer out of range", layer: "2", says: "layer “2” has no MoE block", "one are 0, 1"),
    Case("dense layer", "qwen3_moe_mixed", layer: "1", says: "layer “1” has no MoE block", "one are 3, 5"),
    Case("layer that is no number", layer: "last", says: "layer “last” has no MoE block", "one are 0, 1"),
    Case(
      "decoder layer of an encoder–decoder", "switch_transformers", layer: "1",
      says: "layer “1” has no MoE block",
      "one are encoder.1, decoder.1"),
    // Tensors
    Case("missing expert", says: "/model.safetensors: tensor “\(expert)” is missing") {
      try $0.tensors { $0[expert] = nil }
    },
    Case(
      "misshapen tensor", says: "/model.safetensors: tensor “\(expert)” has shape [12, 10], expected [10, 12]"
    ) {
      try $0.tensors { $0[expert]?.shape = [12, 10] }
    },
    Case(
      "tensor of integers", says: "/model.safetensors: tensor “\(expert)” is I16, expected F32, F16 or BF16"
    ) {
      try $0.tensors { $0[expert]?.type = "I16" }
    },
    Case("extra expert", says: "/model.safetensors: tensor “model.layers.1.mlp.experts.6.", "has 6 experts") {
      try $0.tensors { $0["model.layers.1.mlp.experts.6.up_proj.weight"] = $0[expert] }
    },
    Case("NaN in the router", says: "layer 1 of ", "the router weight has nan at [0, 0]") {
      try $0.tensors {
        $0["model.layers.1.mlp.gate.weight"]?.bytes.replaceSubrange(0..<2, with: [0xC0, 0x7F])
      }
    },
    // Files
    Case("no weights", says: "holds “expected.safetensors”", "expected model.safetensors") {
      try $0.set("model.safetensors", to: nil)
    },
    Case("truncated weights", says: "/model.safetensors: ", "of the data, but the file has only") {
      try $0.bytes(of: "model.safetensors") { $0.removeLast() }
    },
    Case("truncated shard", "qwen3_moe", says: "/\(shard): ", "of the data, but the file has only") {
      try $0.bytes(of: shard) { $0.removeLast(2) }
    },
    Case(
      "missing shard", "qwen3_moe", says: "/\(index): places tensor “", "in “\(shard)”, which does not exist"
    ) {
      try $0.set(shard, to: nil)
    },
    Case("index that names no shard", "qwen3_moe", says: "is in the index under “none.safetensors”") {
      try $0.shard(expert, "none.safetensors")
    },
    Case("shard outside the folder", "qwen3_moe", says: "/\(index): ", "“../x”, which is not a path inside") {
      try $0.shard(expert, "../x")
    },
    Case("shard at the root", "qwen3_moe", says: "/\(index): ", "“/etc/passwd”, which is not a path inside") {
      try $0.shard(expert, "/etc/passwd")
    },
    Case("index that is not JSON", "qwen3_moe", says: "/\(index): ") { try $0.set(index, to: [0x7B]) },
  ]

  @Test(arguments: cases)
  func isRefused(_ bad: Case) throws {
    try withTemporaryFolder { folder in
      let scene = Scene(checkpoint: folder.appending(path: "checkpoint"))
      try FileManager.default.copyItem(at: fixtures.appending(path: bad.fixture), to: scene.checkpoint)
      try bad.damage(scene)
      let input = folder.appending(path: "x.safetensors")
      try Data(safetensors(["hidden": Tensor(2, 5, 12)])).write(to: input)
      let before = try names(in: folder)
      let run = try moe(
        "apply", scene.checkpoint.path, "--layer", bad.layer, "--input", input.path, "--output",
        folder.appending(path: "y.safetensors").path)
      expectFailure(run, saying: [scene.checkpoint.path] + bad.complaint)
      #expect(try names(in: folder) == before)
    }
  }

  @Test(arguments: [
    ("none", "none/config.json: cannot be opened"), ("file", "file: is not a folder with config"),
  ])
  func checkpointThatIsNoFolder(_ name: String, _ complaint: String) throws {
    try withTemporaryFolder { folder in
      try Data("{}".utf8).write(to: folder.appending(path: "file"))
      try Data(safetensors(["hidden": Tensor(1, 12)])).write(to: folder.appending(path: "x"))
      let run = try moe(
        "apply", folder.appending(path: name).path, "--layer", "0", "--input",
        folder.appending(path: "x").path,
        "--output", folder.appending(path: "y").path)
      expectFailure(run, saying: [complaint])
      #expect(try names(in: folder) == ["file", "x"])
    }
  }
}
