@_exported public import LayerCases
public import Testing

/// Checks a property on the case of each seed.
///
/// The first failing case is shrunk: while some smaller case fails too, with whatever reason, it takes the
/// place of the larger. Then one issue is recorded with the seed to paste into `seeds:` and the smallest
/// case, and the remaining seeds are left alone.
///
/// - Parameters:
///   - seeds: one case each.
///   - makeCase: the case of a seed.
///   - property: throws, by ``ensure(_:_:)`` for instance, where the property does not hold.
public func checkProperty<Case: Shrinkable>(
  seeds: some Sequence<UInt64>, of makeCase: (UInt64) -> Case,
  sourceLocation: SourceLocation = #_sourceLocation, _ property: (Case) throws -> Void
) {
  for seed in seeds {
    let first = makeCase(seed)
    guard let reason = failure(of: property, on: first) else { continue }
    let (smallest, smallestReason, steps) = shrink(first, because: reason, property)
    Issue.record(
      """
      seeds: [\(seed)] fails: \(reason)
      first case: \(first)
      smallest case, \(steps) steps down: \(smallest)
      where: \(smallestReason)
      """, sourceLocation: sourceLocation)
    return
  }
}

/// Checks a property of random layer problems.
public func checkProperty(
  seeds: some Sequence<UInt64>, sourceLocation: SourceLocation = #_sourceLocation,
  _ property: (LayerCase) throws -> Void
) {
  checkProperty(seeds: seeds, of: LayerCase.init(seed:), sourceLocation: sourceLocation, property)
}

/// The smallest failing case that can be reached by failing steps, with its reason and the number of steps.
func shrink<Case: Shrinkable>(
  _ first: Case, because firstReason: String, _ property: (Case) throws -> Void
) -> (smallest: Case, reason: String, steps: Int) {
  var (smallest, reason, steps) = (first, firstReason, 0)
  search: while steps < 100 {
    for candidate in smallest.smaller {
      if let failure = failure(of: property, on: candidate) {
        (smallest, reason, steps) = (candidate, failure, steps + 1)
        continue search
      }
    }
    break
  }
  return (smallest, reason, steps)
}

/// Why the property fails on one case, nil where it holds.
private func failure<Case>(of property: (Case) throws -> Void, on example: Case) -> String? {
  do {
    try property(example)
    return nil
  } catch {
    return "\(error)"
  }
}
