/// The experts in order of the part of a group that holds them: part p has those at `parts[p]`.
package struct ExpertOrder {
  /// `[E]`: experts, part after part.
  package let experts: [Int]
  /// `[EP]`.
  package let parts: [Range<Int>]

  /// ⌊E/EP⌋ or ⌈E/EP⌉ experts each, as `ExpertPlacement` has them.
  package init(_ placement: PlacementRule, chances: [Double], partCount: Int) {
    let count = chances.count
    let parts = (0..<partCount).map { $0 * count / partCount..<($0 + 1) * count / partCount }
    self.parts = parts
    switch placement {
    case .contiguous: experts = Array(0..<count)
    case .balanced:
      // Longest processing time first (Graham 1969), as far as a part has room.
      var held: [[Int]] = Array(repeating: [], count: partCount)
      var loads = Array(repeating: 0.0, count: partCount)
      for expert in (0..<count).sorted(by: { (chances[$0], $1) > (chances[$1], $0) }) {
        let part = parts.indices.filter { held[$0].count < parts[$0].count }.min {
          (loads[$0], $0) < (loads[$1], $1)
        }!
        held[part].append(expert)
        loads[part] += chances[expert]
      }
      experts = Array(held.joined())
    }
  }
}

/// Which part of a group holds which experts.
public enum PlacementRule: String, Sendable, Codable, CaseIterable {
  /// In order.
  case contiguous
  /// The most chosen first, each to the part with the least load.
  case balanced
}
