internal import MoERun

/// Returns the section about loss: a plot over steps of every run, and a table of final values.
func lossSection(_ facts: [RunFacts], _ names: [String]) -> String {
  let several = facts.count > 1
  let legend =
    several
    ? "Each colour is a run: the line is its training loss, smoothed, the dots its validation loss."
    : "The line is the training loss, smoothed; the faint line behind it is unsmoothed; dots are the validation loss."
  let radius = smoothingRadius(facts[0].run.steps.count)
  let smoothing = radius > 0 ? " Smoothed: the mean of up to \(2 * radius + 1) steps." : ""
  return section(
    "loss", "Loss", escaped(lossSentence(facts, names)),
    figure(lossPlot(facts, names), caption: escaped(legend + smoothing), style: "card")
      + lossTable(facts, names))
}

private func lossSentence(_ facts: [RunFacts], _ names: [String]) -> String {
  guard let validation = facts[0].validation else {
    return "Training ended at \(fixed(facts[0].finalLoss, 3)) nats per byte; no validation was measured."
  }
  let gap = validation.last - facts[0].finalLoss
  let end =
    "Validation ended at \(fixed(validation.last, 3)) nats per byte, \(fixed(abs(gap), 3)) "
    + "\(gap < 0 ? "below" : "above") training"
  let best =
    validation.best.loss < validation.last - 0.0005
    ? "; its best was \(fixed(validation.best.loss, 3)) at step \(grouped(validation.best.step))" : ""
  let ranked = zip(names, facts).compactMap { name, facts in facts.validation.map { (name, $0.last) } }
  guard facts.count > 1, let lowest = ranked.min(by: { $0.1 < $1.1 }) else { return end + best + "." }
  return "\(end)\(best). The lowest of the runs is \(lowest.0) with \(fixed(lowest.1, 3))."
}

private func lossPlot(_ facts: [RunFacts], _ names: [String]) -> String {
  let raw = facts.map { Series($0.run.steps, \.loss) }
  let smooth = raw.map { $0.smoothed(radius: smoothingRadius($0.points.count)) }
  let validation = facts.map { Series($0.run.steps, \.validationLoss) }
  let all = (raw + validation).flatMap { $0.points.map(\.value) }
  let y = lossAxis(all)
  let x = stepAxis(facts)
  let ticks = y.ticks(6)
  let bits = Axis(y.lower * bitsPerNat, y.upper * bitsPerNat)

  var marks = gridLines(ticks.map(y.position))
  for index in facts.indices {
    marks += raw[index].extremes(curvePoints).path(x, y, style: "raw \(lineStyle(index))")
  }
  for index in facts.indices {
    let title =
      "\(names[index]), training loss, smoothed: \(fixed(smooth[index].last!, 3)) nats/byte at the end"
    marks += smooth[index].means(curvePoints).path(x, y, style: "line \(lineStyle(index))", title: title)
    let style = lineStyle(facts.count > 1 ? index : 1)
    if facts.count == 1 { marks += validation[index].means(curvePoints).path(x, y, style: "thin \(style)") }
    marks += validation[index].means(60).dots(x, y, style: style) {
      "\(names[index]), validation at step \(grouped(nearest($0.step))): \(fixed($0.value, 3)) nats/byte, "
        + "\(fixed($0.value * bitsPerNat, 3)) bits/byte"
    }
  }
  return Plot(
    kind: "tall", height: 320, summary: "Loss over steps. \(lossSentence(facts, names))", marks: marks,
    left: ticks.map { .init(position: y.position($0), text: short($0)) }
      + [.init(position: 1.06, text: "nats/byte", style: "unit")],
    right: bits.ticks(6).map { .init(position: bits.position($0), text: short($0)) }
      + [.init(position: 1.06, text: "bits/byte", style: "unit")],
    bottom: stepTicks(x),
    labels: lossLabels(facts, names, smooth, validation, y)
  ).html
}

/// Returns the runs' names beside the ends of their lines, or the names of both lines if there is one run.
private func lossLabels(
  _ facts: [RunFacts], _ names: [String], _ smooth: [Series], _ validation: [Series], _ y: Axis
) -> [Plot.Label] {
  var ends: [(text: String, value: Double, style: String)] = []
  if facts.count > 1 {
    ends = names.enumerated().map { ($1, validation[$0].last ?? smooth[$0].last!, lineStyle($0)) }
  } else {
    ends = [("training", smooth[0].last!, lineStyle(0))]
    if let value = validation[0].last { ends.append(("validation", value, lineStyle(1))) }
  }
  ends.sort { $0.value < $1.value }
  let positions = ends.map { y.position($0.value) }
  // Losses fall, so there is room above the ends of the lines. Of two lines, the lower one has its label below.
  let lines =
    ends.count == 2 && positions[0] > 0.1
    ? [positions[0] - 0.085, positions[1] + 0.025]
    : spread(positions.map { _ in positions.last! + 0.03 }, gap: 0.07, limit: 0.94)
  return zip(ends, lines).map { end, line in Plot.Label(x: 1, y: line, text: end.text, style: end.style) }
}

private func lossTable(_ facts: [RunFacts], _ names: [String]) -> String {
  let columns = [
    "Run", "Preset", "Steps", "Training", "Validation", "bits/byte", "Best validation", "Parameters",
    "Active",
    "Tokens/s", "Dropped",
  ]
  let rows = zip(names, facts).enumerated().map { index, pair in
    let (name, facts) = pair
    let validation = facts.validation
    let parameters = facts.run.description.parameters
    let drops = facts.layers.indices.map(facts.dropRate(layer:))
    let cells = [
      facts.run.description.preset, grouped(facts.steps), fixed(facts.finalLoss, 3),
      validation.map { fixed($0.last, 3) } ?? "–",
      fixed((validation?.last ?? facts.finalLoss) * bitsPerNat, 3),
      validation.map { "\(fixed($0.best.loss, 3)) at \(grouped($0.best.step))" } ?? "–",
      abbreviated(Double(parameters.total)), abbreviated(Double(parameters.activePerToken)),
      grouped(nearest(facts.tokensPerSecond)),
      drops.isEmpty ? "–" : percent(drops.reduce(0, +) / Double(drops.count)),
    ]
    return element(
      "tr", [:],
      element("th", ["scope": "row", "class": "name \(lineStyle(index))"], escaped(name))
        + cells.map { element("td", [:], escaped($0)) }.joined())
  }
  return scrollingTable(
    "Final values: losses in nats per byte; training loss and dropped choices are means of the last tenth of the "
      + "steps; bits per byte are of the validation loss if there is one.",
    head: element("tr", [:], columns.map { element("th", ["scope": "col"], escaped($0)) }.joined()),
    body: rows.joined(), style: "numbers", name: "Final values of each run")
}

/// Returns an axis around the losses, with a margin on both sides.
private func lossAxis(_ values: [Double]) -> Axis {
  let (low, high) = (values.min() ?? 0, values.max() ?? 1)
  let margin = max((high - low) * 0.06, high * 0.01)
  return Axis(max(0, low - margin), high + margin)
}

/// Returns the axis of all steps of all runs. A single step is at its end.
func stepAxis(_ facts: [RunFacts]) -> Axis {
  let first = facts.map { $0.run.steps.first!.step }.min()!
  let last = facts.map { $0.run.steps.last!.step }.max()!
  return Axis(Double(min(first, last - 1)), Double(last))
}

/// Returns round steps below the axis up to a share of it, and its end.
func stepTicks(_ x: Axis, _ count: Int = 5, upTo share: Double = 0.86) -> [Plot.Text] {
  x.wholeTicks(count).filter { (0.04...share).contains(x.position($0)) }
    .map { step in
      // A phone has no room for this label beside the last one.
      .init(
        position: x.position(step), text: grouped(nearest(step)), style: x.position(step) > 0.7 ? "wide" : "")
    }
    + [.init(position: 1, text: "step \(grouped(nearest(x.upper)))", style: "end")]
}

/// Returns the number of points to each side over which a point is smoothed: a hundredth of the run.
func smoothingRadius(_ count: Int) -> Int { count / 100 }

/// Returns the class of a line's colour.
func lineStyle(_ index: Int) -> String { "r\(index % Palette.lineCount)" }
