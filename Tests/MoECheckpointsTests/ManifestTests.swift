import Foundation
import MoECheckpoints
import MoECore
import Testing

/// Checkpoints that contradict their configuration, and what is said of them before any weight is read.
@Suite struct ManifestTests {
  /// A tensor of a damaged checkpoint.
  struct Tensor {
    var type: String
    var shape: [Int]
    var bytes: [UInt8]
  }

  /// A fixture with its tensors and configuration changed.
  private func checkpoint(
    _ fixture: String, config: [String: Any] = [:], _ change: (inout [String: Tensor]) -> Void = { _ in }
  ) throws -> Checkpoint {
    var files = try fixtureFiles(fixture)
    let old = try #require(
      try JSONSerialization.jsonObject(with: Data(files["config.json"]!)) as? [String: Any])
    files["config.json"] = Array(
      try JSONSerialization.data(withJSONObject: old.merging(config) { _, new in new }))
    let file = try SafetensorsFile(bytes: files["model.safetensors"]!, name: fixture)
    var tensors = try Dictionary(
      uniqueKeysWithValues: file.names.map { name in
        let tensor = try file.tensor(name)
        return (
          name, Tensor(type: tensor.type.rawValue, shape: tensor.shape, bytes: try file.bytes(named: name))
        )
      })
    change(&tensors)
    var (header, data) = ([String](), [UInt8]())
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      let end = data.count + tensor.bytes.count
      header.append(
        "\"\(name)\":{\"dtype\":\"\(tensor.type)\",\"shape\":\(tensor.shape),\"data_offsets\":[\(data.count),\(end)]}"
      )
      data += tensor.bytes
    }
    files["model.safetensors"] = safetensors("{\(header.joined(separator: ","))}") + data
    return try Checkpoint(files: files)
  }

  private let expert = "model.layers.1.mlp.experts.5.up_proj.weight"

  @Test func missingTensor() throws {
    let checkpoint = try checkpoint("qwen2_moe") { $0[expert] = nil }
    expectComplaint("model.safetensors: tensor “\(expert)” is missing") { try checkpoint.layer("1") }
    _ = try checkpoint.layer("0")
  }

  @Test func misshapenTensor() throws {
    let checkpoint = try checkpoint("qwen2_moe") { $0[expert]!.shape = [12, 10] }
    expectComplaint("“\(expert)” has shape [12, 10], expected [10, 12]") { try checkpoint.layer("1") }
  }

  @Test func tensorOfAnotherType() throws {
    let checkpoint = try checkpoint("qwen2_moe") { $0[expert]!.type = "I16" }
    expectComplaint("“\(expert)” is I16, expected F32, F16 or BF16") { try checkpoint.layer("1") }
  }

  @Test func extraExpert() throws {
    let extra = "model.layers.1.mlp.experts.6.up_proj.weight"
    let checkpoint = try checkpoint("qwen2_moe") { $0[extra] = $0[expert] }
    expectComplaint("“\(extra)” is unexpected: the block has 6 experts") { try checkpoint.layer("1") }
  }

  @Test func biasThatNobodyWouldRead() throws {
    let extra = "model.layers.1.mlp.experts.0.up_proj.bias"
    let checkpoint = try checkpoint("qwen2_moe") {
      $0[extra] = Tensor(type: "F32", shape: [1], bytes: [0, 0, 0, 0])
    }
    expectComplaint("“\(extra)” is unexpected") { try checkpoint.layer("1") }
  }

  @Test func fewerExpertsThanConfigured() throws {
    let checkpoint = try checkpoint("granitemoe", config: ["num_local_experts": 7])
    expectComplaint("router.layer.weight” has shape [6, 12], expected [7, 12]") { try checkpoint.layer("0") }
  }

  @Test func layersWithoutExperts() throws {
    let checkpoint = try checkpoint("qwen3_moe_mixed")
    #expect(checkpoint.moeLayers == ["3", "5"])
    for layer in ["0", "1", "6", "-1", "", "encoder.1", "99999999999999999999"] {
      expectComplaint("layer “\(layer)” has no MoE block: the layers that have one are 3, 5") {
        try checkpoint.layer(layer)
      }
    }
  }

  @Test func expertOutOfRange() throws {
    let layer = try checkpoint("mixtral").layer("0")
    for index in [-1, 6, Int.max] { expectComplaint("no expert \(index)") { try layer.expert(index) } }
    expectComplaint("no dense branch") { try layer.denseBranch() }
    expectComplaint("no gate") { try layer.denseBranchGate() }
  }

  @Test(
    arguments: [
      ("mixtral", "model_type", "bert", "“model_type” is “bert”, supported is deepseek_v2"),
      ("mixtral", "model_type", 5, "“model_type” is 5, expected a string"),
      ("mixtral", "hidden_act", "quick_gelu", "“hidden_act” is “quick_gelu”, supported is silu"),
      ("mixtral", "hidden_size", 0, "“hidden_size” is 0, expected an integer from 1"),
      ("mixtral", "hidden_size", "20", "“hidden_size” is “20”, expected an integer"),
      ("mixtral", "num_experts", 8, "“num_local_experts” is 6 and “num_experts” is 8, expected the same"),
      ("mixtral", "num_hidden_layers", 1 << 60, "“num_hidden_layers” is 1152921504606846976"),
      (
        "mixtral", "quantization_config", ["quant_method": "fp8"],
        "“quant_method” in “quantization_config” is “fp8”"
      ),
      ("qwen2_moe", "norm_topk_prob", 1.5, "“norm_topk_prob” is 1.5, expected true or false"),
      ("qwen2_moe", "mlp_only_layers", ["a"], "“mlp_only_layers” contains “a”"),
      ("deepseek_v2", "topk_method", "noaux_tc", "“topk_method” is “noaux_tc”, supported is “greedy”"),
      ("deepseek_v2", "norm_topk_prob", true, "“norm_topk_prob” is true, supported is false"),
      ("deepseek_v2", "topk_group", 5, "“topk_group” is 5, expected an integer from 1 to 4"),
      ("dots1", "scoring_func", "softmax", "“scoring_func” is “softmax”, supported is “sigmoid”"),
      ("ernie4_5_moe", "use_bias", true, "“use_bias” is true, supported is false"),
      (
        "gpt_oss", "quantization_config", ["quant_method": "bitsandbytes"], "“quant_method” is “bitsandbytes”"
      ),
      ("phimoe", "num_experts_per_tok", 3, "“num_experts_per_tok” is 3, supported is 2"),
      (
        "switch_transformers", "router_dtype", "bfloat16",
        "“router_dtype” is “bfloat16”, supported is “float32”"
      ),
      ("switch_transformers", "dense_act_fn", "gated-gelu", "“dense_act_fn” is “gated-gelu”"),
    ] as [(String, String, any Sendable, String)])
  func unsupportedValue(_ fixture: String, _ key: String, _ value: any Sendable, _ complaint: String) {
    expectComplaint(complaint) { try checkpoint(fixture, config: [key: value]) }
  }

  @Test func configurationThatContradictsItself() throws {
    expectComplaint("memory/config.json: top-k is 7, expected 1 to the number of experts, 6") {
      try checkpoint("mixtral", config: ["num_experts_per_tok": 7])
    }
  }

  // MARK: The index

  private func sharded(_ change: (inout [String: Any]) -> Void) throws -> Checkpoint {
    var files = try fixtureFiles("qwen3_moe")
    let name = "model.safetensors.index.json"
    var index = try #require(try JSONSerialization.jsonObject(with: Data(files[name]!)) as? [String: Any])
    var map = try #require(index["weight_map"] as? [String: Any])
    change(&map)
    index["weight_map"] = map
    files[name] = Array(try JSONSerialization.data(withJSONObject: index))
    return try Checkpoint(files: files)
  }

  @Test(arguments: [
    "../model-00001-of-00003.safetensors", "/etc/passwd", "a/../../b", "", ".", "a//b", "a\0b",
  ])
  func shardOutsideTheFolder(_ shard: String) {
    expectComplaint("not a path inside the folder") { try sharded { $0["model.norm.weight"] = shard } }
  }

  @Test func indexAndShardsDisagree() {
    expectComplaint("tensor “model.norm.weight” is not in the index") {
      try sharded { $0["model.norm.weight"] = nil }
    }
    expectComplaint("is in the index under “model-00001-of-00003.safetensors”") {
      try sharded { $0["model.norm.weight"] = "model-00001-of-00003.safetensors" }
    }
    expectComplaint("places tensor “x” in 1, expected a file name") { try sharded { $0["x"] = 1 } }
  }

  /// The index promises tensors that are nowhere; they are missed where they are asked for.
  @Test func tensorsThatNoShardHas() throws {
    let expert = "model.layers.1.mlp.experts.5.up_proj.weight"
    for shard in ["none.safetensors", "model-00001-of-00003.safetensors"] {
      let other = try sharded { $0["x"] = shard }
      for layer in other.moeLayers { _ = try other.layer(layer) }
    }
    var files = try fixtureFiles("qwen3_moe")
    let whole = try Checkpoint(files: files)
    for shard in files.keys.sorted() where shard.hasSuffix("-of-00003.safetensors") {
      var fewer = files
      fewer[shard] = nil
      let checkpoint = try Checkpoint(files: fewer)
      #expect(checkpoint.moeLayers == whole.moeLayers)
      var complaints = 0
      for layer in checkpoint.moeLayers {
        do { _ = try checkpoint.layer(layer) } catch {
          complaints += 1
          #expect(
            "\(error)".hasPrefix("memory/model.safetensors.index.json: places tensor “model.layers.\(layer).")
          )
          #expect("\(error)".hasSuffix("in “\(shard)”, which does not exist"))
        }
      }
      #expect(complaints > 0, "\(shard)")
    }
    // The tensor is in the index under a shard that is there and has it not.
    let name = "model.safetensors.index.json"
    var index = try #require(try JSONSerialization.jsonObject(with: Data(files[name]!)) as? [String: Any])
    var map = try #require(index["weight_map"] as? [String: String])
    let home = try #require(map[expert])
    let file = try SafetensorsFile(bytes: files[home]!, name: home)
    var writer = SafetensorsWriter()
    for name in file.names where name != expert {
      try writer.add(name, file.floats(named: name), shape: file.tensor(name).shape)
    }
    files[home] = writer.bytes()
    map["y"] = home
    index["weight_map"] = map
    files[name] = Array(try JSONSerialization.data(withJSONObject: index))
    let checkpoint = try Checkpoint(files: files)
    _ = try checkpoint.layer("0")
    expectComplaint("places tensor “\(expert)” in “\(home)”, which lacks it") { try checkpoint.layer("1") }
  }

  @Test func missingFiles() throws {
    expectComplaint("config.json") { try Checkpoint(folder: fixtures.path) }
    var files = try fixtureFiles("mixtral")
    files["model.safetensors"] = nil
    expectComplaint("memory: holds “expected.safetensors”, expected model.safetensors, or") {
      try Checkpoint(files: files)
    }
  }
}
