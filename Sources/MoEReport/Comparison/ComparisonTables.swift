extension RunComparison {
  /// What was found, as tables in Markdown; a value over several seeds is a mean with its range.
  public var tables: String {
    let runs = [baseline] + others
    let sections = [
      losses(runs), arrivals, progress, loads,
      specialization("label", \.ofLabel, \.ofOtherLabels), specialization("kind of character", \.ofClass),
      strongestExperts,
    ]
    return sections.filter { !$0.isEmpty }.joined(separator: "\n\n") + "\n"
  }

  private func losses(_ groups: [Group]) -> String {
    let reference = baseline.runs[0]
    let rows = groups.map { group in
      let first = group.runs[0]
      let arrivals = group.runs.compactMap { arrival($0) }
      let isBaseline = group.name == baseline.name
      let final = Spread(group.runs.map(\.finalLoss))!
      return [
        group.name, "\(group.runs.count)", abbreviated(Double(first.parameters.total)),
        abbreviated(Double(first.parameters.active)), Spread(group.runs.map(\.trainingLoss))!.text(3),
        final.text(3), fixed(final.mean * bitsPerNat, 3),
        isBaseline
          ? grouped(first.steps) : Spread(arrivals.map(\.step))?.text(0, of: group.runs.count) ?? "–",
        isBaseline ? "1" : Spread(arrivals.map(\.ratio))?.text(2, of: group.runs.count) ?? "–",
      ]
    }
    return """
      **Loss.** \(grouped(reference.steps)) steps at \(grouped(reference.flopsPerToken)) FLOPs per byte in every \
      run. Losses are in nats per byte; that of training is the mean of the last tenth of the steps.

      \(table(
        [
          "runs", "seeds", "parameters", "for a byte", "training loss", "final validation loss",
          "bits/byte", "steps to \(baseline.name)'s final loss", "times fewer",
        ], rows))
      """
  }

  /// Each run by itself; the last columns show that single validations do not decide.
  private var arrivals: String {
    let rows = others.flatMap { group in
      group.runs.map { run in
        let other = baseline.runs.first { $0.seed == run.seed }
        return [
          group.name, "\(run.seed)", fixed(run.finalLoss, 4), other.map { fixed($0.finalLoss, 4) } ?? "–",
          arrival(run).map { fixed($0.step, 0) } ?? "–", arrival(run).map { fixed($0.ratio, 2) } ?? "–",
          arrival(run, radius: 2).map { fixed($0.ratio, 2) } ?? "–",
        ]
      }
    }
    return """
      **Each seed.** The step is interpolated between the two validations around it. Smoothed: both curves are centred \
      means of five validations.

      \(table(
        [
          "runs", "seed", "final loss", "\(baseline.name)'s final loss", "step that reaches it", "times fewer",
          "smoothed",
        ], rows))
      """
  }

  /// Whether the gain grows.
  private var progress: String {
    let shares = [0.25, 0.5, 0.75, 1]
    let rows = others.map { group in
      [group.name]
        + shares.map { share in
          Spread(group.runs.compactMap { arrival($0, after: share)?.ratio })?.text(2, of: group.runs.count)
            ?? "–"
        }
    }
    let steps = shares.map { "after \(grouped(Int($0 * Double(baseline.runs[0].steps))))" }
    return """
      **Times fewer steps to where \(baseline.name) is** after so many of its own.

      \(table(["runs"] + steps, rows))
      """
  }
}

/// A table in Markdown, the first column to the left and numbers to the right.
func table(_ header: [String], _ rows: [[String]]) -> String {
  let rule = header.indices.map { $0 == 0 ? "---" : "--:" }
  return ([header, rule] + rows).map { "| \($0.joined(separator: " | ")) |" }.joined(separator: "\n")
}
