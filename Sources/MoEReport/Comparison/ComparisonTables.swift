extension RunComparison {
  /// The comparison as tables in Markdown. A value over several seeds is a mean with its range.
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
      run. Losses are in nats per byte; the training loss is the mean of the last tenth of the steps.

      \(table(
        [
          "runs", "seeds", "parameters", "per byte", "training loss", "final validation loss",
          "bits/byte", "steps to \(baseline.name)'s final loss", "times fewer",
        ], rows))
      """
  }

  /// A table of each run. Its last column shows whether single validations decide the result.
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

  /// A table that shows whether the gain grows during training.
  private var progress: String {
    let shares = [0.25, 0.5, 0.75, 1]
    let rows = others.map { group in
      [group.name]
        + shares.map { share in
          Spread(group.runs.compactMap { arrival($0, after: share)?.ratio })?.text(2, of: group.runs.count)
            ?? "–"
        }
    }
    let steps = shares.map {
      "after \(grouped(nearest(($0 * Double(baseline.runs[0].steps)).rounded(.down))))"
    }
    return """
      **Times fewer steps to the loss of \(baseline.name)** after some of its own steps.

      \(table(["runs"] + steps, rows))
      """
  }
}

/// Returns a table in Markdown, with the first column aligned to the left and the others to the right.
func table(_ header: [String], _ rows: [[String]]) -> String {
  let rule = header.indices.map { $0 == 0 ? "---" : "--:" }
  return ([header, rule] + rows).map { "| \($0.joined(separator: " | ")) |" }.joined(separator: "\n")
}
