import MoEPlan

/// A small model without attention.
func model(
  experts: Int = 8, top: Int = 2, hidden: Int = 16, inner: Int = 32, layers: Int = 1, isGated: Bool = true
) throws -> ModelShape {
  try ModelShape(
    expertCount: experts, expertsPerToken: top, hiddenSize: hidden, feedForwardSize: inner,
    layerCount: layers,
    isGated: isGated, hasAttention: false)
}

/// Machines with plain numbers, on which nothing but what a test sets takes time.
func cluster(
  hosts: Int = 2, ranks: Int = 1, cores: Int? = nil, link: Link = Link(latency: 1e-3, bandwidth: 1e6),
  intra: Link = Link(latency: 0, bandwidth: 1e15), flops: Double = 1e9, memory: Double = 1e12
) throws -> Cluster {
  try Cluster(
    hostCount: hosts, ranksPerHost: ranks, coresPerHost: cores ?? ranks, memory: memory, link: link,
    intra: intra,
    rates: ComputeRates(flops: flops, memoryBandwidth: 1e15, choiceSeconds: 0, passSeconds: 0))
}

/// A step whose loads are expected ones.
func workload(tokens: Int, trains: Bool = true) -> Workload {
  var workload = Workload(tokenCount: tokens)
  workload.seed = nil
  workload.trains = trains
  workload.optimizer = .none
  return workload
}

extension Prediction {
  /// Seconds of a stage; 0 where there is none.
  func seconds(_ stage: String) -> Double { stages.stages.first { $0.name == stage }?.seconds ?? 0 }
}

/// Whether two numbers agree to a relative 10⁻⁹, or to 10⁻¹² where they are that small.
func isClose(_ one: Double, _ other: Double) -> Bool {
  abs(one - other) <= max(1e-9 * max(abs(one), abs(other)), 1e-12)
}
