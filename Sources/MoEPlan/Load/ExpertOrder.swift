import ExpertParallel

/// The experts in the order of the parts of a group that hold them: part p holds those at `parts[p]`.
package struct ExpertOrder {
  /// `[E]`: the experts, part after part.
  package let experts: [Int]
  /// `[EP]`: the places of each part's experts in ``experts``.
  package let parts: [Range<Int>]

  /// Gives each part as many experts as `ExpertPlacement` gives a rank: ⌊E/EP⌋ or ⌈E/EP⌉.
  package init(_ placement: PlacementRule, chances: [Double], partCount: Int) {
    let held = ExpertPlacement(expertCount: chances.count, rankCount: partCount).experts
    let parts = held.map { $0[0]..<$0[0] + $0.count }
    self.parts = parts
    switch placement {
    case .contiguous: experts = Array(chances.indices)
    case .balanced:
      // Longest processing time first (Graham 1969), limited by the number of experts of a part.
      var held: [[Int]] = Array(repeating: [], count: partCount)
      var loads = Array(repeating: 0.0, count: partCount)
      for expert in chances.indices.sorted(by: { (chances[$0], $1) > (chances[$1], $0) }) {
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

/// The rule that says which part of a group holds which experts.
public enum PlacementRule: String, Sendable, Codable, CaseIterable {
  /// Experts in order over parts in order.
  case contiguous
  /// The most chosen expert first, each to the part with the smallest load so far.
  case balanced
}
