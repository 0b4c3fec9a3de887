extension RunComparison {
  /// An SVG of the validation loss over steps, with colours for light and for dark pages. Each configuration has a
  /// line, the mean over seeds, with the range over seeds shaded. Dots mark the steps at which lines reach the
  /// baseline's final loss.
  public var figure: String {
    let groups = [baseline] + others
    let curves = groups.map { meanCurve($0.runs.map(\.validation)) }
    let goal = Spread(baseline.runs.map(\.finalLoss))!.mean
    let frame = Frame(curves, steps: baseline.runs[0].steps)
    let ends = labelPositions(curves.map { frame.y.position($0.last!.spread.mean) })
    var marks = frame.grid
    for (index, curve) in curves.enumerated() { marks += frame.band(curve, style: "r\(index)") }
    marks += frame.rule(goal)
    for (index, curve) in curves.enumerated() { marks += frame.line(curve, style: "r\(index)") }
    var labels = frame.tickLabels + frame.ruleLabel(goal, "\(baseline.name)'s final loss")
    for (index, curve) in curves.enumerated() {
      let mean = Series(curve.map { .init(step: $0.step, value: $0.spread.mean) })
      if index > 0, let step = mean.step(reaching: goal) {
        marks += frame.dot(step: step, value: goal, style: "r\(index)")
      }
      labels += frame.endLabel(ends[index], groups[index].name, style: "r\(index)")
    }
    return frame.picture(
      marks, labels,
      summary: "Validation loss in nats per byte over \(grouped(baseline.runs[0].steps)) steps: "
        + zip(groups, curves).map { "\($0.name) ends at \(fixed($1.last!.spread.mean, 3))" }
        .joined(separator: ", ") + ".")
  }

  /// Returns places for labels near the ends of their lines: apart from one another, and on average no higher than
  /// the ends.
  private func labelPositions(_ ends: [Double]) -> [Double] {
    let apart = spread(ends, gap: 0.055)
    let rise = zip(apart, ends).reduce(0) { $0 + $1.0 - $1.1 } / Double(ends.count)
    return apart.map { $0 - min(rise, apart.min()!) }
  }

  /// Returns the mean over runs at each step at which all runs were validated.
  private func meanCurve(_ runs: [Series]) -> [SpreadPoint] {
    runs[0].points.compactMap { point in
      let values = runs.compactMap { run in run.points.first { $0.step == point.step }?.value }
      return values.count == runs.count ? SpreadPoint(step: point.step, spread: Spread(values)!) : nil
    }
  }
}

/// The losses of several seeds at one step.
struct SpreadPoint {
  var step: Double
  var spread: Spread
}
