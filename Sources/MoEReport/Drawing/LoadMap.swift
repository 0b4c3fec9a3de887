import Foundation
import MoERun

/// A map of experts × steps that shows how far each expert's load is from the balanced one.
package struct LoadMap {
  /// `[expert][range of steps]`: the expert's share of the choices times E, which is 1 if it is balanced.
  var ratios: [[Double]]
  /// The steps of each range.
  var steps: [ClosedRange<Int>]

  /// - Parameters:
  ///   - layer: the position of the layer among those of a step.
  ///   - columns: the largest number of ranges of steps; the loads of a range are added.
  init(_ records: [StepRecord], layer: Int, columns: Int) {
    let ranges = stretches(records.count, columns)
    let expertCount = records[0].layers[layer].load.count
    steps = ranges.map { records[$0.lowerBound].step...records[$0.upperBound - 1].step }
    ratios = Array(repeating: Array(repeating: 0, count: ranges.count), count: expertCount)
    for (column, range) in ranges.enumerated() {
      let shares = loadShares(records[range], layer: layer)
      for expert in 0..<expertCount { ratios[expert][column] = shares[expert] * Double(expertCount) }
    }
  }

  /// The ratios at which levels end: a level holds the ratios below its threshold.
  static let thresholds = [0.25, 0.5, 0.75, 0.9, 1.1, 4.0 / 3, 2, 4]

  /// Returns the level of a ratio: −4 is far below balance, 0 is balanced, 4 is far above.
  package static func level(_ ratio: Double) -> Int {
    (thresholds.firstIndex { ratio < $0 } ?? thresholds.count) - thresholds.count / 2
  }

  /// Returns the map's marks, in units of one range × one expert. Balanced cells are the background.
  ///
  /// - Parameter titles: a tooltip for each expert.
  func marks(titles: [String]) -> String {
    let count = Double(ratios.count)
    var paths: [Int: String] = [:]
    for (expert, row) in ratios.enumerated() {
      var start = 0
      while start < row.count {
        let level = Self.level(row[start])
        let end = row[start...].firstIndex { Self.level($0) != level } ?? row.count
        if level != 0 { paths[level, default: ""] += "M\(start) \(expert)h\(end - start)" }
        start = end
      }
    }
    let width = coordinate(Double(steps.count))
    let background = element("rect", ["class": "l0", "width": width, "height": coordinate(count)])
    let cells = paths.sorted { $0.key < $1.key }.map { level, data in
      element("path", ["class": level < 0 ? "lm\(-level)" : "lp\(level)", "d": data])
    }
    let hits = titles.enumerated().map { expert, title in
      element(
        "rect", ["y": "\(expert)", "width": width, "height": "1"], element("title", [:], escaped(title)))
    }
    return background + element("g", ["transform": "translate(0 .5)"], cells.joined())
      + element("g", ["class": "hit"], hits.joined())
  }
}

/// Returns each expert's share of a layer's choices in some steps; zeros if nothing was chosen.
func loadShares(_ records: some Collection<StepRecord>, layer: Int) -> [Double] {
  var sums = Array(repeating: 0, count: records.first!.layers[layer].load.count)
  for record in records {
    for (expert, load) in record.layers[layer].load.enumerated() { sums[expert] += load }
  }
  let total = sums.reduce(0, +)
  return sums.map { total == 0 ? 0 : Double($0) / Double(total) }
}
