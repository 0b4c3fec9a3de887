import Foundation
import MoERun

/// Experts × steps: how far each expert's load is from the balanced one.
package struct LoadMap {
  /// [expert][stretch of steps], the expert's share of the choices times E: 1 where balanced.
  var ratios: [[Double]]
  /// The steps of each stretch.
  var steps: [ClosedRange<Int>]

  /// - Parameters:
  ///   - layer: the position of the layer among those of a step.
  ///   - columns: at most so many stretches of steps, whose loads are added.
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

  /// Where the levels end: a level holds the ratios up to its threshold.
  static let thresholds = [0.25, 0.5, 0.75, 0.9, 1.1, 4.0 / 3, 2, 4]

  /// −4 far below balance, 0 balanced, 4 far above.
  package static func level(_ ratio: Double) -> Int {
    (thresholds.firstIndex { ratio < $0 } ?? thresholds.count) - thresholds.count / 2
  }

  /// The map's marks, in units of one stretch × one expert; balanced cells are the background.
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

/// Each expert's share of a layer's choices in some steps; zeros where nothing was chosen.
func loadShares(_ records: some Collection<StepRecord>, layer: Int) -> [Double] {
  var sums = Array(repeating: 0, count: records.first!.layers[layer].load.count)
  for record in records {
    for (expert, load) in record.layers[layer].load.enumerated() { sums[expert] += load }
  }
  let total = sums.reduce(0, +)
  return sums.map { total == 0 ? 0 : Double($0) / Double(total) }
}
