internal import MoERun

extension RoutingMap {
  /// The most bytes that a count may be: sums of counts stay within an `Int`.
  private static let largestCount = 1 << 40

  /// The complaint about lengths that do not agree or values out of range; nil where there is none.
  var complaint: String? {
    if experts.count != layers.count {
      return "“experts” has \(experts.count) numbers, expected one for each of \(layers.count) layers"
    }
    if let count = experts.first(where: { $0 < 1 }) { return "“experts” has \(count), expected 1 or more" }
    return Self.complaint("by_label", byLabel, experts: experts, columns: ("labels", labels.count))
      ?? Self.complaint("by_class", byClass, experts: experts, columns: ("classes", classes.count))
      ?? samples.indices.lazy.compactMap { index in
        samples[index].complaint(experts: experts).map { "“samples[\(index)]” \($0)" }
      }.first
  }

  private static func complaint(
    _ name: String, _ counts: [[[Int]]], experts: [Int], columns: (name: String, count: Int)
  ) -> String? {
    if counts.count != experts.count {
      return "“\(name)” has \(counts.count) layers, expected \(experts.count)"
    }
    for (layer, rows) in counts.enumerated() {
      if rows.count != experts[layer] {
        return "“\(name)[\(layer)]” has \(rows.count) experts, expected \(experts[layer])"
      }
      for (expert, row) in rows.enumerated() {
        if row.count != columns.count {
          let found = "“\(name)[\(layer)][\(expert)]” has \(row.count) counts"
          return "\(found), expected one for each of \(columns.count) \(columns.name)"
        }
        if let count = row.first(where: { !(0...largestCount).contains($0) }) {
          return "“\(name)[\(layer)][\(expert)]” has \(count), expected 0 to \(largestCount)"
        }
      }
    }
    return nil
  }
}

extension RoutingMap.Sample {
  fileprivate func complaint(experts counts: [Int]) -> String? {
    if experts.count != counts.count { return "has \(experts.count) layers, expected \(counts.count)" }
    for (layer, chosen) in experts.enumerated() {
      if chosen.count != bytes.count {
        return "has \(chosen.count) experts for \(bytes.count) bytes in layer \(layer)"
      }
      if let expert = chosen.first(where: { !(-1..<counts[layer]).contains($0) }) {
        return "has expert \(expert), expected −1 to \(counts[layer] - 1)"
      }
    }
    if let byte = bytes.first(where: { !(0...255).contains($0) }) {
      return "has the byte \(byte), expected 0 to 255"
    }
    if loss.count != bytes.count { return "has \(loss.count) losses for \(bytes.count) bytes" }
    return loss.first { !(-1e15...1e15).contains($0) }.map { "has the loss \($0), expected one up to 10^15" }
  }
}
