internal import CKernels
internal import MoECore

extension Kernels {
  /// Computes dL/dlogits [T, E] from dL/dweights [T, K] and the losses of the router.
  static func routerBackward(
    _ choices: RouterChoices, policy: RoutingPolicy, weightGradients: MemoryView<Float>,
    losses: RouterLossGradients, execution: Execution, memory: inout RouterGradientScratch,
    scratch: inout CallScratch
  ) throws(MoEError) -> MemoryView<Float> {
    let (tokens, experts) = (choices.tokenCount, choices.expertCount)
    var rule = policy.cRule(choices.noise)
    let kernel = try scratch.kernel.reserve(
      bytes: moe_router_scratch_bytes(execution.cValue, 0, Int64(experts)))
    let logitGradients = try memory.logitGradients.reserve(tokens * experts, of: Float.self)
    let terms = unsafe try losses.probabilityGradients(in: &memory.probabilityGradients)
    unsafe terms.withUnsafeBufferPointer { terms in
      unsafe moe_router_backward(
        execution.cValue, &rule, choices.logits!.base, choices.expertIDs.base, weightGradients.base,
        Int64(tokens), Int64(experts), Int64(choices.expertsPerToken), terms.baseAddress, Int64(terms.count),
        losses.logSumExpFactor, logitGradients.base, kernel.base)
    }
    return logitGradients
  }
}

extension RouterLossGradients {
  /// The gradients of probabilities as the kernel takes them, copied side by side into `scratch`.
  fileprivate func probabilityGradients(
    in scratch: inout Scratch
  ) throws(MoEError) -> [moe_probability_gradients] {
    let values = try scratch.reserve(probability.reduce(0) { $0 + $1.values.count }, of: Float.self)
    var terms: [moe_probability_gradients] = unsafe []
    var offset = 0
    for term in probability {
      unsafe term.values.withUnsafeBufferPointer { elements in
        for index in elements.indices { unsafe values[offset + index] = elements[index] }
      }
      unsafe terms.append(
        moe_probability_gradients(
          values: values.base + offset, group_tokens: Int64(term.grouping.runLength),
          groups: Int64(max(term.values.rows, 1))))
      offset += term.values.count
    }
    return unsafe terms
  }
}
