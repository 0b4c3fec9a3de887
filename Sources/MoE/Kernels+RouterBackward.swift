internal import CKernels
internal import MoECore

extension RouterChoices {
  /// Returns the recorded choices in the kernels' C type; valid as long as their memory is.
  ///
  /// - Parameter rows: the rows of the choices, which a rule that normalises after dropping reads.
  func cValue(rows: ChoiceRows? = nil) -> moe_routes {
    unsafe moe_routes(
      T: Int64(tokenCount), E: Int64(expertCount), K: Int64(expertsPerToken), logits: logits!.base,
      expert_ids: expertIDs.base, choice_row: rows?.rows.base)
  }
}

extension Kernels {
  /// Computes dL/dlogits [T, E] from dL/dweights [T, K] and the losses of the router.
  static func routerBackward(
    _ choices: RouterChoices, rows: ChoiceRows?, policy: RoutingPolicy, weightGradients: MemoryView<Float>,
    losses: RouterLossGradients, execution: Execution, memory: inout RouterGradientScratch,
    scratch: inout CallScratch
  ) throws(MoEError) -> MemoryView<Float> {
    let (tokens, experts) = (choices.tokenCount, choices.expertCount)
    var rule = policy.cRule(choices.noise, expertCount: experts)
    let kernel = try scratch.kernel.reserve(
      bytes: moe_router_backward_scratch_bytes(execution.cValue, Int64(experts)))
    let logitGradients = try memory.logitGradients.reserve(tokens * experts, of: Float.self)
    let terms = unsafe try losses.probabilityGradients(in: &memory.probabilityGradients)
    var routes = unsafe choices.cValue(rows: rows)
    unsafe terms.withUnsafeBufferPointer { terms in
      var losses = unsafe moe_router_losses(
        probability: terms.baseAddress, count: Int64(terms.count), logsumexp_gradient: losses.logSumExpFactor)
      unsafe moe_router_backward(
        execution.cValue, &rule, &routes, weightGradients.base, &losses, logitGradients.base, kernel.base)
    }
    return logitGradients
  }
}

extension RouterLossGradients {
  /// Copies the gradients of the probabilities side by side into `scratch`, and returns them in the kernel's C type.
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
          values: values.base + offset,
          grouping: moe_token_grouping(
            run_length: Int64(term.grouping.runLength), groups: Int64(max(term.values.rows, 1)))))
      offset += term.values.count
    }
    return unsafe terms
  }
}
