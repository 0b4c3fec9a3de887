package import MoECore

extension RoutingRecord {
  /// Copies what the kernels wrote, into the arrays' own storage where that is large enough.
  package mutating func update(
    from workspace: inout Workspace, tokenCount: Int, expertCount: Int, expertsPerToken: Int, mask: [Bool]?,
    capacity: Int?, loadBalance: RoutingPolicy.LoadBalance
  ) throws(MoEError) {
    let choices = tokenCount * expertsPerToken
    self.tokenCount = tokenCount
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
    self.capacity = capacity
    self.loadBalance = loadBalance
    var routed = tokenCount
    if let mask { for isRouted in mask where !isRouted { routed -= 1 } }
    routedTokenCount = routed
    unsafe Self.copy(
      try workspace.routing.expertIDs.reserve(choices, of: Int32.self), choices, to: &expertIDs)
    unsafe Self.copy(
      try workspace.routing.expertWeights.reserve(choices, of: Float.self), choices, to: &expertWeights)
    unsafe Self.copy(try workspace.slots.reserve(choices, of: Int32.self), choices, to: &slots)
    unsafe Self.copy(try workspace.margins.reserve(tokenCount, of: Float.self), tokenCount, to: &margins)
    unsafe Self.copy(try workspace.logSumExp.reserve(tokenCount, of: Float.self), tokenCount, to: &logSumExp)
    let sums = unsafe try workspace.counts.reserve(3 * expertCount, of: Int64.self)
    unsafe Self.copy(sums, expertCount, to: &counts)
    unsafe Self.copy(sums + expertCount, expertCount, to: &firstChoiceCounts)
    unsafe Self.copy(sums + 2 * expertCount, expertCount, to: &probabilitySums)
    unsafe Self.copy(
      try workspace.dropped.reserve(expertCount, of: Int64.self), expertCount, to: &droppedCounts)
  }

  private static func copy<Element: BitwiseCopyable>(
    _ source: UnsafeMutablePointer<Element>, _ count: Int, to array: inout [Element]
  ) {
    array.removeAll(keepingCapacity: true)
    unsafe array.append(contentsOf: UnsafeBufferPointer(start: source, count: count))
  }
}
