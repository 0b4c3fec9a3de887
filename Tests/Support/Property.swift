@_exported public import LayerCases
public import Testing

/// Checks a property on the case of each seed.
///
/// The first failing case is shrunk: as long as a smaller case also fails, for any reason, it replaces the larger one.
/// Then one issue is recorded, with the seed to paste into `seeds:` and the smallest case. The remaining seeds are
/// not tried.
///
/// - Parameters:
///   - seeds: the seeds, one per case.
///   - makeCase: the function that makes the case of a seed.
///   - property: the function that throws if the property does not hold, for example by ``ensure(_:_:)``.
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

/// Checks a property on the random layer problem of each seed.
public func checkProperty(
  seeds: some Sequence<UInt64>, sourceLocation: SourceLocation = #_sourceLocation,
  _ property: (LayerCase) throws -> Void
) {
  checkProperty(seeds: seeds, of: LayerCase.init(seed:), sourceLocation: sourceLocation, property)
}

/// Shrinks a failing case, at most 100 times, to a smaller case that also fails. Returns the last failing case, its
/// reason and the number of steps.
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

/// Returns the reason why the property fails on one case; nil if it holds.
private func failure<Case>(of property: (Case) throws -> Void, on example: Case) -> String? {
  do {
    try property(example)
    return nil
  } catch {
    return "\(error)"
  }
}
