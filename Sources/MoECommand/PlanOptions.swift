public import ArgumentParser
import Foundation
import MoE
import MoECheckpoints
public import MoEPlan
import MoEReport

extension Workload.Optimizer: ExpressibleByArgument {}
extension Workload.GradientSum: ExpressibleByArgument {}
extension PlacementRule: ExpressibleByArgument {}
extension Route: ExpressibleByArgument {}

/// The model and the step of `moe plan`.
struct PlannedModelOptions: ParsableArguments {
  @Option(help: "E, experts per layer.") var experts: Int?
  @Option(help: "K, experts per token (2).") var topK: Int?
  @Option(help: "D, the hidden size.") var hidden: Int?
  @Option(help: "F, the feed-forward size of an expert.") var ffn: Int?
  @Option(help: "Layers with experts (1).") var layers: Int?
  @Flag(help: "Experts of two matrices, without a gate projection.") var noGate = false
  @Flag(help: "Layers without attention.") var noAttention = false
  @Option(help: "F of a dense branch beside the experts (0: none).") var sharedFfn: Int?
  @Option(help: "Rows of the embedding, which is also the output projection (0: none).")
  var vocabulary: Int?
  @Option(help: "Tokens per step, over all ranks (4096 per rank).") var tokens: Int?
  @Option(help: "Tokens per sequence (1024).") var context: Int?
  @Flag(help: "Plan forward passes alone.") var inference = false
  @Option(
    help: ArgumentHelp(
      "The optimizer, which decides how many moments are kept (adamw).",
      valueName: Workload.Optimizer.allCases.map(\.rawValue).joined(separator: "|")))
  var optimizer: Workload.Optimizer?
  @Option(help: ArgumentHelp("The number format of the networks (f32).", valueName: "f32|bf16"))
  var dtype: Precision?
  @Option(help: ArgumentHelp("The number format of rows sent between ranks (f32).", valueName: "f32|bf16"))
  var payload: Precision?
  @Flag(help: "Compute activations again in the backward pass.") var recompute = false
  @Option(help: "Rows per expert, as a multiple of an equal share; without it nothing is dropped.")
  var capacityFactor: Double?
  @Option(
    help: ArgumentHelp(
      "How gradients of several ranks are added: exact has the bits of one rank, reduced is an all-reduce (reduced).",
      valueName: Workload.GradientSum.allCases.map(\.rawValue).joined(separator: "|")))
  var gradientSum: Workload.GradientSum?

  /// Whether each option was given, by its name.
  var given: [(name: String, isGiven: Bool)] {
    [
      ("--experts", experts != nil), ("--top-k", topK != nil), ("--hidden", hidden != nil),
      ("--ffn", ffn != nil), ("--layers", layers != nil), ("--no-gate", noGate),
      ("--no-attention", noAttention), ("--shared-ffn", sharedFfn != nil),
      ("--vocabulary", vocabulary != nil), ("--tokens", tokens != nil), ("--context", context != nil),
      ("--inference", inference), ("--optimizer", optimizer != nil), ("--dtype", dtype != nil),
      ("--payload", payload != nil), ("--recompute", recompute), ("--capacity-factor", capacityFactor != nil),
      ("--gradient-sum", gradientSum != nil),
    ]
  }

  func validate() throws {
    let backward = [
      ("--optimizer", optimizer != nil), ("--recompute", recompute), ("--gradient-sum", gradientSum != nil),
    ]
    if inference, let option = backward.first(where: \.1)?.0 {
      throw ValidationError(
        "--inference has no backward pass, so \(option) has nothing to do; give one of both")
    }
  }

  func model() throws -> ModelShape {
    for (name, value) in [("--experts", experts), ("--hidden", hidden), ("--ffn", ffn)] where value == nil {
      throw ValidationError("\(name) is missing; a model is planned from --experts, --hidden and --ffn")
    }
    return try usage {
      try ModelShape(
        expertCount: experts!, expertsPerToken: topK ?? 2, hiddenSize: hidden!, feedForwardSize: ffn!,
        layerCount: layers ?? 1, isGated: !noGate, sharedFeedForwardSize: sharedFfn ?? 0,
        hasAttention: !noAttention,
        vocabularySize: vocabulary ?? 0)
    }
  }

  func workload(rankCount: Int, seed: UInt64) throws -> Workload {
    var workload = Workload(tokenCount: tokens ?? 4096 * rankCount)
    workload.sequenceLength = context ?? 1024
    workload.trains = !inference
    workload.optimizer = inference ? .none : optimizer ?? .adamw
    workload.parameterBytes = dtype == .bfloat16 ? 2 : 4
    workload.payloadBytes = payload == .bfloat16 ? 2 : 4
    workload.recomputes = recompute
    workload.capacityFactor = capacityFactor
    workload.gradientSum = gradientSum ?? .reduced
    workload.seed = seed
    try usage { try workload.validate() }
    return workload
  }
}

/// The machines of `moe plan`.
struct PlannedClusterOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The description that --calibrate wrote; the options below replace parts of it.", valueName: "file"))
  var cluster: String?
  @Option(help: "Hosts.") var hosts: Int?
  @Option(help: "Ranks on each host.") var ranksPerHost: Int?
  @Option(help: "Cores per host, which its ranks share (one per rank).") var cores: Int?
  @Option(help: "Bandwidth and latency between hosts: 1gbit:50us.") var link: String?
  @Option(help: "Bandwidth and latency between the ranks of a host, in all: 10GB/s:2us.") var intra: String?
  @Option(
    help: "Operations per second of a host, where a multiply-add is two: 250G. Replaces a measured curve.")
  var flops: String?
  @Option(help: "Memory per host: 24GiB.") var memory: String?
  @Option(help: "Bytes per second of a host's memory: 40GB/s.") var memoryBandwidth: String?

  /// Whether each option was given, by its name.
  var given: [(name: String, isGiven: Bool)] {
    [
      ("--cluster", cluster != nil), ("--hosts", hosts != nil), ("--ranks-per-host", ranksPerHost != nil),
      ("--cores", cores != nil), ("--link", link != nil), ("--intra", intra != nil),
      ("--flops", flops != nil),
      ("--memory", memory != nil), ("--memory-bandwidth", memoryBandwidth != nil),
    ]
  }

  func description() throws -> Cluster {
    let cluster = try cluster.map { path in
      try Cluster(json: Data(contents(ofFile: path, atMost: 1 << 24)), path: path)
    }
    let isGiven = cluster != nil
    return try usage {
      if let cluster, cluster.hostCount == 1, hosts ?? 1 > 1, link == nil {
        throw PlanError(
          "--link is missing: the description has one host, so nothing in it says what --hosts \(hosts!) have between them"
        )
      }
      var base =
        try cluster
        ?? Cluster(
          hostCount: 1, ranksPerHost: 1, coresPerHost: 1, memory: 24 * 0x1p30,
          link: Link(latency: 50e-6, bandwidth: 1e9 / 8), intra: Link(latency: 2e-6, bandwidth: 10e9),
          rates: ComputeRates(flops: 250e9))
      base.hostCount = hosts ?? base.hostCount
      base.ranksPerHost = ranksPerHost ?? base.ranksPerHost
      base.coresPerHost = cores ?? (isGiven ? base.coresPerHost : base.ranksPerHost)
      if let link { base.link = try Link(link, name: "--link") }
      if let intra { base.intra = try Link(intra, name: "--intra") }
      if let flops {
        base.rates.flops = try Self.amount(flops, "--flops", Quantity.operations, "a rate such as 250G")
        base.rates.curve = []
      }
      if let memory {
        base.memory = try Self.amount(memory, "--memory", Quantity.bytes, "bytes such as 24GiB")
      }
      if let memoryBandwidth {
        base.rates.memoryBandwidth = try Self.amount(
          memoryBandwidth, "--memory-bandwidth", Quantity.bandwidth, "a bandwidth such as 40GB/s")
      }
      try base.validate()
      return base
    }
  }

  private static func amount(
    _ text: String, _ name: String, _ read: (String) -> Double?, _ example: String
  ) throws -> Double {
    guard let value = read(text) else { throw PlanError("\(name) is “\(text)”, expected \(example)") }
    return value
  }
}

/// Calls `body`; what is wrong with a plan's options is bad usage.
func usage<Value>(_ body: () throws -> Value) throws -> Value {
  do {
    return try body()
  } catch let error as PlanError {
    throw ValidationError(error.description)
  }
}
