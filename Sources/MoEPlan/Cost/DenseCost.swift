/// The time of everything without experts: attention, dense branches, the output projection and the optimizer. Each
/// rank computes its own tokens.
struct DenseCost {
  /// Seconds of the forward pass, of the backward pass without gradients of parameters, and of the optimizer's step.
  let forward: Double
  let backward: Double
  let optimizer: Double

  /// A token takes 2·P operations for P parameters, and 2·2·S/2·D for the scores and sums of causal attention over S
  /// tokens, at the rate of large products. The backward pass has as many products with parameters as the forward
  /// pass, and twice as many for the scores. The optimizer reads and writes at the rate of memory.
  init(model: ModelShape, workload: Workload, topology: Topology) {
    let tokens = Double(workload.tokenCount) / Double(topology.rankCount)
    let products =
      2 * Double(model.layerCount * model.denseParameters + model.vocabularySize * model.hiddenSize)
    let scores =
      model.hasAttention
      ? Double(model.layerCount) * 2 * Double(workload.sequenceLength * model.hiddenSize) : 0
    let rates = topology.cluster.rates
    forward = topology.elapsed(tokens * (products + scores) / rates.flops)
    backward = workload.trains ? topology.elapsed(tokens * (products + 2 * scores) / rates.flops) : 0
    let count = Double(MemoryEstimate.parameterCount(model, topology.split))
    optimizer =
      workload.trains
      ? topology.elapsed(count * Double(workload.optimizer.touchedBytes) / rates.memoryBandwidth) : 0
  }
}
