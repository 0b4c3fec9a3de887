package import MoECore

/// The capacity that a policy gives each expert for a batch of a given shape.
package struct CapacityInForce {
  /// The largest number of rows per expert in one scope; nil if nothing is dropped.
  package let capacity: Int?
  /// The order in which choices claim rows.
  package let priority: RoutingPolicy.Capacity.Priority
  /// The number of consecutive tokens that compete for rows.
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
    scope =
      switch rule.scope {
      case .batch: tokenCount
      case .sequence: sequenceLength
      case .group(let size): min(size, max(tokenCount, 1))
      }
    priority = rule.priority
    capacity = rule.rule.capacity(
      tokenCount: scope, expertCount: expertCount, expertsPerToken: expertsPerToken)
  }
}
