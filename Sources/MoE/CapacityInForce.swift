package import MoECore

/// A policy's capacity for a batch of a shape.
package struct Dispatch {
  /// The rows of an expert in one scope; nil where nothing is dropped.
  package let capacity: Int?
  /// The order in which choices claim rows.
  package let priority: RoutingPolicy.Capacity.Priority
  /// The consecutive tokens that compete.
  package let scope: Int

  package init(
    _ policy: RoutingPolicy, expertCount: Int, expertsPerToken: Int, tokenCount: Int, sequenceLength: Int
  ) {
    guard let rule = policy.capacity else {
      capacity = nil
      priority = .tokenThenChoice
      scope = tokenCount
      return
    }
    scope = rule.scope == .batch ? tokenCount : sequenceLength
    priority = rule.priority
    capacity = rule.rule.capacity(
      tokenCount: scope, expertCount: expertCount, expertsPerToken: expertsPerToken)
  }
}
