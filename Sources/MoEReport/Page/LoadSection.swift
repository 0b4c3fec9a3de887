import Foundation
import MoERun

/// Returns the section about expert load, with one card per layer. A card has the load map and, over the same steps,
/// the load's coefficient of variation, the dropped choices and the entropy.
func loadSection(_ facts: RunFacts) -> String {
  let layers = facts.layers
  if layers.isEmpty {
    return section(
      "load", "Expert load", "This run is dense: no layer has experts, so there is no load.", "")
  }
  // With many experts there are fewer columns, so that the page stays small.
  let columns = min(120, max(24, 40_000 / layers.reduce(0) { $0 + $1.experts }))
  let ranges = StripRanges(facts)
  let cards = layers.indices.map { loadCard(facts, $0, columns: columns, ranges) }
  return section(
    "load", "Expert load", escaped(loadSentence(facts)),
    loadKey() + element("div", ["class": layers.count > 1 ? "cards two" : "cards"], cards.joined()))
}

private func loadSentence(_ facts: RunFacts) -> String {
  let busiest = facts.layers.indices.map { layer -> (layer: Int, expert: Int, ratio: Double) in
    let shares = loadShares(facts.tail, layer: layer)
    let expert = shares.indices.max { shares[$0] < shares[$1] }!
    return (facts.layers[layer].layer, expert, shares[expert] * Double(shares.count))
  }
  let most = busiest.max { $0.ratio < $1.ratio }!
  let drops = facts.layers.indices.map(facts.dropRate(layer:))
  let worst = drops.indices.max { drops[$0] < drops[$1] }!
  let dropped =
    drops[worst] == 0
    ? "nothing was dropped"
    : "\(percent(drops[worst])) of the choices were dropped"
      + (drops.count { $0 < drops[worst] } > 0 ? " in layer \(facts.layers[worst].layer), the most" : "")
  return "Over \(facts.tailName) the busiest expert is expert \(most.expert) of layer \(most.layer), with "
    + "\(fixed(most.ratio, 2)) × the balanced load; \(dropped)."
}

/// Returns the legend of the load map.
private func loadKey() -> String {
  let bounds = ["¼", "½", "¾", "0.9", "1.1", "1⅓", "2", "4"]
  let levels = (-4...4).map { level in
    let style = level < 0 ? "lm\(-level)" : level == 0 ? "l0" : "lp\(level)"
    let bound = level < 4 ? element("b", [:], bounds[level + 4]) : ""
    return element("i", ["class": "swatch \(style)"]) + bound
  }
  return element(
    "p", ["class": "key", "aria-hidden": "true"],
    element("span", [:], "load, × the balanced one") + element("span", ["class": "scale"], levels.joined())
      + element("span", [:], "balanced in the middle"))
}

/// The axes that the small curves of all layers share, so that layers can be compared.
private struct StripRanges {
  var x: Axis
  var variation: Axis
  var dropRate: Axis

  init(_ facts: RunFacts) {
    let steps = facts.run.steps
    x = stepAxis([facts])
    let variations = steps.flatMap { $0.layers.map { ExpertLoad.variation($0.load) } }
    let drops = steps.flatMap { $0.layers.map(\.dropRate) }
    variation = .fromZero(upTo: max(0.1, variations.max() ?? 0))
    dropRate = .fromZero(upTo: max(0.01, drops.max() ?? 0))
  }
}

private func loadCard(_ facts: RunFacts, _ index: Int, columns: Int, _ ranges: StripRanges) -> String {
  let (layer, count) = facts.layers[index]
  let strips = [
    strip(
      facts, ranges.x, ranges.variation, "Coefficient of variation of the load", "0 is balanced",
      format: { fixed($0, 2) }, value: { ExpertLoad.variation($0.layers[index].load) }),
    strip(
      facts, ranges.x, ranges.dropRate, "Dropped choices", "", format: percent,
      value: { $0.layers[index].dropRate }),
    strip(
      facts, ranges.x, Axis(0, max(log(Double(count)), 0.1)), "Entropy of the router's load, nats",
      "the dashed line, ln \(count) = \(fixed(log(Double(count)), 2)), is balanced",
      mark: log(Double(count)), format: { fixed($0, 2) }, value: { $0.layers[index].entropy }, isLast: true),
  ]
  return element(
    "article", ["class": "card"],
    element("h3", [:], "Layer \(layer)\(element("small", [:], " \(counted(count, "expert"))"))")
      + loadMapPlot(facts, index, columns: columns) + strips.joined())
}

private func loadMapPlot(_ facts: RunFacts, _ index: Int, columns: Int) -> String {
  let (layer, count) = facts.layers[index]
  let map = LoadMap(facts.run.steps, layer: index, columns: columns)
  let shares = loadShares(facts.tail, layer: index)
  let rowHeight = max(1, min(22, 360 / count))
  let every = [1, 2, 4, 8, 16, 32, 64, 128, 256].first { $0 * rowHeight >= 15 } ?? 512
  let titles = shares.enumerated().map { expert, share in
    "Expert \(expert): \(percent(share)) at the end, \(fixed(share * Double(count), 2)) × balanced"
  }
  let rows = stride(from: 0, to: count, by: every).map { expert in
    (position: 1 - (Double(expert) + 0.5) / Double(count), expert: expert)
  }
  let most = shares.indices.max { shares[$0] < shares[$1] }!
  let least = shares.indices.min { shares[$0] < shares[$1] }!
  let caption =
    "Load of each expert (rows) over steps; at the right its share over \(facts.tailName). "
    + "Balanced is \(percent(1 / Double(count))). Most: expert \(most), \(percent(shares[most])); least: expert "
    + "\(least), \(percent(shares[least]))."
  let plot = Plot(
    kind: "map", height: rowHeight * count, summary: "Layer \(layer). \(caption)",
    marks: map.marks(titles: titles),
    units: (Double(map.steps.count), Double(count)),
    left: rows.map { .init(position: $0.position, text: "\($0.expert)") },
    right: rows.map { .init(position: $0.position, text: percent(shares[$0.expert])) })
  return figure(plot.html, caption: escaped(caption), style: "first")
}

/// Returns a small curve over the steps, with its last value beside its name.
private func strip(
  _ facts: RunFacts, _ x: Axis, _ y: Axis, _ name: String, _ remark: String, mark: Double? = nil,
  format: (Double) -> String, value: (StepRecord) -> Double, isLast: Bool = false
) -> String {
  let series = Series(facts.run.steps, value)
  let end = facts.mean(value)
  let title = "\(name): \(format(end)) over \(facts.tailName)"
  let summary = "\(title); at first \(format(series.points[0].value)). \(remark)"
  let ticks = [0, y.upper]
  let marks =
    gridLines([0, 1]) + (mark.map { gridLines([y.position($0)], style: "goal") } ?? "")
    + series.extremes(curvePoints / 2).path(x, y, style: "raw r0")
    + series.means(curvePoints).path(x, y, style: "line r0", title: title)
  let plot = Plot(
    kind: "strip", height: 56, summary: summary, marks: marks,
    left: ticks.map { .init(position: y.position($0), text: format($0)) },
    bottom: isLast ? stepTicks(x, 4, upTo: 0.72) : [])
  let caption =
    element("b", [:], escaped(name)) + " \(escaped(format(end)))"
    + (remark.isEmpty ? "" : element("span", [:], " · \(escaped(remark))"))
  return element("figure", ["class": "strip"], element("figcaption", [:], caption) + plot.html)
}
