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
  @Option(help: "E, experts of a layer.") var experts: Int?
  @Option(help: "K, experts a token passes.") var topK = 2
  @Option(help: "D, the width of a token.") var hidden: Int?
  @Option(help: "F, the width inside an expert.") var ffn: Int?
  @Option(help: "Layers with experts.") var layers = 1
  @Flag(help: "Experts of two matrices, without a gate projection.") var noGate = false
  @Flag(help: "Layers without attention.") var noAttention = false
  @Option(help: "F of a dense branch beside the experts.") var sharedFfn = 0
  @Option(help: "Rows of the embedding, which is also the output projection.") var vocabulary = 0
  @Option(help: "Tokens of a step, over all ranks; 4096 a rank without it.") var tokens: Int?
  @Option(help: "Tokens of a sequence.") var context = 1024
  @Flag(help: "Forward passes alone.") var inference = false
  @Option(
    help: ArgumentHelp(
      "What keeps moments.", valueName: Workload.Optimizer.allCases.map(\.rawValue).joined(separator: "|")))
  var optimizer: Workload.Optimizer = .adamw
  @Option(help: ArgumentHelp("What the networks are computed in.", valueName: "f32|bf16")) var dtype:
    Precision =
      .float32
  @Option(help: ArgumentHelp("What travels.", valueName: "f32|bf16")) var payload: Precision = .float32
  @Flag(help: "Compute activations again in the backward pass.") var recompute = false
  @Option(help: "Rows of an expert as a multiple of its even share; nothing is dropped without it.")
  var capacityFactor: Double?
  @Option(
    help: ArgumentHelp(
      "How gradients of several ranks are added: with the bits of one rank, or by an all-reduce.",
      valueName: Workload.GradientSum.allCases.map(\.rawValue).joined(separator: "|")))
  var gradientSum: Workload.GradientSum = .reduced

  func model() throws -> ModelShape {
    for (name, value) in [("--experts", experts), ("--hidden", hidden), ("--ffn", ffn)] where value == nil {
      throw ValidationError("\(name) is missing; a model is planned from --experts, --hidden and --ffn")
    }
    return try usage {
      try ModelShape(
        expertCount: experts!, expertsPerToken: topK, hiddenSize: hidden!, feedForwardSize: ffn!,
        layerCount: layers, isGated: !noGate, sharedFeedForwardSize: sharedFfn, hasAttention: !noAttention,
        vocabularySize: vocabulary)
    }
  }

  func workload(rankCount: Int, seed: UInt64) throws -> Workload {
    var workload = Workload(tokenCount: tokens ?? 4096 * rankCount)
    workload.sequenceLength = context
    workload.trains = !inference
    workload.optimizer = inference ? .none : optimizer
    workload.parameterBytes = dtype == .bfloat16 ? 2 : 4
    workload.payloadBytes = payload == .bfloat16 ? 2 : 4
    workload.recomputes = recompute
    workload.capacityFactor = capacityFactor
    workload.gradientSum = gradientSum
    workload.seed = seed
    try usage { try workload.validate() }
    return workload
  }
}

/// The machines of `moe plan`.
struct PlannedClusterOptions: ParsableArguments {
  @Option(help: ArgumentHelp("What --calibrate wrote; options below replace parts of it.", valueName: "file"))
  var cluster: String?
  @Option(help: "Hosts.") var hosts: Int?
  @Option(help: "Ranks on each host.") var ranksPerHost: Int?
  @Option(help: "Cores of a host, which its ranks share; one for each rank without it.") var cores: Int?
  @Option(help: "Bandwidth and latency between hosts: 1gbit:50us.") var link: String?
  @Option(help: "The same between ranks of a host, in all: 10GB/s:2us.") var intra: String?
  @Option(help: "Operations a second of a host, a multiply-add being two: 250G. Replaces a measured curve.")
  var flops: String?
  @Option(help: "Memory of a host: 24GiB.") var memory: String?
  @Option(help: "Bytes a second of a host's memory: 40GB/s.") var memoryBandwidth: String?

  func description() throws -> Cluster {
    let cluster = try cluster.map { path in
      guard let data = FileManager.default.contents(atPath: path) else {
        throw PlanError("\(path): the description of a cluster cannot be read")
      }
      return try Cluster(json: data, path: path)
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

/// What is wrong with options is bad usage.
func usage<Value>(_ body: () throws -> Value) throws -> Value {
  do {
    return try body()
  } catch let error as PlanError {
    throw ValidationError(error.description)
  }
}
