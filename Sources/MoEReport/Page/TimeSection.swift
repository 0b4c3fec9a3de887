internal import MoERun

/// Returns the section about time: the stages of a step, and tokens per second over the steps.
func timeSection(_ facts: RunFacts) -> String {
  let stages = facts.stages
  let total = stages.reduce(0) { $0 + $1.seconds }
  let largest = stages.max { $0.seconds < $1.seconds }
  let lead =
    largest.map {
      "A step takes \(milliseconds(total)) on average; the largest part, \(percent(total == 0 ? 0 : $0.seconds / total)), "
        + "is \(stageName($0.name))."
    } ?? "No stage was timed."
  return section(
    "time", "Time", escaped(lead),
    element("div", ["class": "cards two"], stageCard(stages, total) + speedCard(facts)))
}

private func stageCard(_ stages: [(name: String, seconds: Double)], _ total: Double) -> String {
  let top = stages.map(\.seconds).max() ?? 0
  let rows = stages.map { stage in
    let share = total == 0 ? 0 : stage.seconds / total
    let width = top == 0 ? 0 : stage.seconds / top * 100
    return element(
      "tr", [:],
      element("th", ["scope": "row"], escaped(stageName(stage.name)))
        + element("td", ["class": "bar"], element("i", ["style": "width:\(coordinate(width))%"]))
        + element("td", [:], milliseconds(stage.seconds)) + element("td", [:], percent(share)))
  }
  return element(
    "article", ["class": "card"],
    element("h3", [:], "A step by stage")
      + element(
        "table", ["class": "bars"],
        element("caption", [:], "Mean over all steps.")
          + element(
            "thead", ["class": "hidden"],
            "<tr><th scope=\"col\">stage</th><td></td><th scope=\"col\">time</th><th scope=\"col\">share</th></tr>"
          )
          + element("tbody", [:], rows.joined())))
}

private func speedCard(_ facts: RunFacts) -> String {
  let series = Series(facts.run.steps, \.tokensPerSecond)
  let y = Axis(0, (series.points.map(\.value).max() ?? 1) * 1.05)
  let x = stepAxis([facts])
  let ticks = y.ticks(4)
  let middle = grouped(nearest(facts.tokensPerSecond))
  let summary = "Tokens per second over steps; the median is \(middle)."
  let marks =
    gridLines(ticks.map(y.position))
    + series.extremes(curvePoints / 2).path(x, y, style: "raw r2")
    + series.smoothed(radius: smoothingRadius(series.points.count)).means(curvePoints)
    .path(x, y, style: "line r2", title: summary)
  let plot = Plot(
    height: 190, summary: summary, marks: marks,
    left: ticks.map { .init(position: y.position($0), text: abbreviated($0)) }, bottom: stepTicks(x, 4))
  return element(
    "article", ["class": "card"],
    element("h3", [:], "Tokens per second") + figure(plot.html, caption: escaped(summary)))
}

private func stageName(_ name: String) -> String {
  let known = [
    "feed_forward": "dense feed-forward", "moe": "experts (MoE)", "head": "output head", "data": "data",
    "attention": "attention", "optimizer": "optimizer", "embedding": "embedding",
    "communication": "waiting for other ranks", "other": "everything else",
  ]
  return known[name] ?? name.replacing("_", with: " ")
}

private func milliseconds(_ seconds: Double) -> String {
  seconds >= 10 ? "\(short(seconds))\u{202f}s" : "\(short(seconds * 1000))\u{202f}ms"
}
