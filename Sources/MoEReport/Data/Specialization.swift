import Foundation

/// The information that a byte's expert has about the byte's label, from counts of bytes.
///
/// Let p(e, l) be the share of all bytes that have label l and went to expert e. The mutual information is
/// I = Σ p(e,l) log₂(p(e,l) / (p(e) p(l))). It is at most the smaller of the entropies of expert and label (Cover and
/// Thomas, *Elements of Information Theory*, §2.3–2.4).
package struct Specialization: Equatable {
  /// I, in bits.
  package var information: Double
  /// The smaller of both entropies, in bits.
  package var maximum: Double
  /// The expected I of N independent bytes, in bits, which is not zero by chance: (E′−1)(L′−1) / (2 N ln 2), with E′
  /// experts and L′ labels that occur (Miller 1955).
  package var chance: Double
  /// The expert whose labels differ most from those of all bytes; nil if no expert differs.
  package var strongest: Expert?

  /// One expert, and the label that distinguishes it.
  package struct Expert: Equatable {
    package var expert: Int
    /// The label whose share of the expert's bytes exceeds its share of all bytes most.
    package var label: Int
    /// The label's share of the expert's bytes, and of all bytes.
    package var share: Double
    package var shareOfAll: Double
  }

  /// I divided by its maximum; 0 if the maximum is 0.
  package var ratio: Double { maximum > 1e-12 ? information / maximum : 0 }

  /// - Parameter counts: `[expert][label]`: numbers of bytes.
  package init(counts: [[Int]]) {
    let total = Double(counts.joined().reduce(0, +))
    let labelCount = counts.first?.count ?? 0
    let ofLabel = (0..<labelCount).map { label in counts.reduce(0.0) { $0 + Double($1[label]) } }
    let ofExpert = counts.map { Double($0.reduce(0, +)) }
    (information, maximum, chance, strongest) = (0, 0, 0, nil)
    if total == 0 { return }

    maximum = min(entropy(ofLabel), entropy(ofExpert))
    let occurring = (ofExpert.count { $0 > 0 } - 1) * (ofLabel.count { $0 > 0 } - 1)
    chance = Double(occurring) / (2 * total * M_LN2)
    // Experts with few bytes differ by chance, so the strongest one must have at least a quarter of an even share.
    let enough = total / Double(counts.count) / 4
    var largest = 1e-9
    for (expert, row) in counts.enumerated() where ofExpert[expert] > 0 {
      var divergence = 0.0
      var best = (label: 0, gain: 0.0)
      for (label, count) in row.enumerated() where count > 0 {
        let share = Double(count) / ofExpert[expert]
        let gain = share * log2(share * total / ofLabel[label])
        divergence += gain
        if gain > best.gain { best = (label, gain) }
      }
      information += ofExpert[expert] / total * divergence
      if ofExpert[expert] >= enough, divergence > largest {
        largest = divergence
        strongest = Expert(
          expert: expert, label: best.label, share: Double(row[best.label]) / ofExpert[expert],
          shareOfAll: ofLabel[best.label] / total)
      }
    }
    information = min(max(0, information), maximum)
  }
}

/// Returns the entropy of counts, in bits.
func entropy(_ counts: [Double]) -> Double {
  let total = counts.reduce(0, +)
  return counts.reduce(0) { $1 > 0 ? $0 - $1 / total * log2($1 / total) : $0 }
}

/// Returns the middle value, or the mean of the two middle values; 0 if there are none.
package func median(_ values: [Double]) -> Double {
  let sorted = values.sorted()
  if sorted.isEmpty { return 0 }
  return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
}
