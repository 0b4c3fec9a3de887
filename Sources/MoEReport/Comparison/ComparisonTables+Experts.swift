internal import MoERun

extension RunComparison {
  var loads: String {
    let rows = others.flatMap { group in
      (group.runs.map(\.layers.count).min().map { 0..<$0 } ?? 0..<0).map { index in
        let layers = group.runs.map { $0.layers[index] }
        return [
          group.name, "\(layers[0].layer)", "\(layers[0].experts)",
          Spread(layers.map(\.variation))!.text(3), Spread(layers.map(\.variationOfSum))!.text(3),
          Spread(layers.map(\.dropRate))!.text(percent),
        ]
      }
    }
    return rows.isEmpty
      ? ""
      : """
      **Load** of the last tenth of the steps: the mean coefficient of variation (CV) over experts of a step's choices; the \
      CV of the sum of these steps' choices; and the choices that the capacity dropped.

      \(table(["runs", "layer", "experts", "load CV of a step", "of the sum", "dropped"], rows))
      """
  }

  /// Returns a table of the information that a byte's expert has about the byte's label or kind of character, in bits
  /// and as a share of the maximum.
  func specialization(
    _ noun: String, _ all: KeyPath<ComparedRun.Layer, Specialization?>,
    _ others: KeyPath<ComparedRun.Layer, Specialization?>? = nil
  ) -> String {
    let others = labelLeftOut == nil ? nil : others
    let rows = self.others.flatMap { group in
      (group.runs.map(\.layers.count).min().map { 0..<$0 } ?? 0..<0).compactMap { index -> [String]? in
        let layers = group.runs.map { $0.layers[index] }
        let found = layers.compactMap { $0[keyPath: all] }
        guard let information = Spread(found.map(\.information)), let share = Spread(found.map(\.ratio))
        else {
          return nil
        }
        let rest = others.map { path in layers.compactMap { $0[keyPath: path] } }
        return [
          group.name, "\(layers[0].layer)", information.text(3), share.text(percent),
          fixed(Spread(found.map(\.chance))!.mean, 4),
        ] + (rest.map { [Spread($0.map(\.information))?.text(3) ?? "–"] } ?? [])
      }
    }
    if rows.isEmpty { return "" }
    let byte = others == nil ? [] : ofByte.map { [byteRow($0.all, $0.others)] } ?? []
    let header = ["runs", "layer", "bits", "of maximum", "by chance"]
    return """
      **Information of a held-out byte's expert about its \(noun)**: the mutual information, its share of the smaller \
      entropy, and the bits that independent bytes would show.

      \(table(header + (others == nil ? [] : ["bits without \(labelLeftOut!)"]), rows + byte))
      """
  }

  private func byteRow(_ all: Specialization, _ others: Specialization?) -> [String] {
    [
      "the byte itself", "–", fixed(all.information, 3), percent(all.ratio), fixed(all.chance, 4),
      others.map { fixed($0.information, 3) } ?? "–",
    ]
  }

  /// A table of the expert of each layer that differs most from all others, in the first seed.
  var strongestExperts: String {
    let rows = others.flatMap { group -> [[String]] in
      let run = group.runs[0]
      return run.layers.compactMap { layer in
        guard let ofLabel = layer.ofLabel, let ofClass = layer.ofClass else { return nil }
        return [
          run.name, "\(layer.layer)", strongest(ofLabel, run.labels), strongest(ofClass, run.classes),
        ]
      }
    }
    if rows.isEmpty { return "" }
    return """
      **The most specialised expert** of each layer in one run: the label's share of its bytes, and of all bytes.

      \(table(["run", "layer", "label", "kind of character"], rows))
      """
  }

  private func strongest(_ found: Specialization, _ names: [String]) -> String {
    guard let expert = found.strongest else { return "–" }
    return
      "\(expert.expert): \(percent(expert.share)) \(names[expert.label]) of \(percent(expert.shareOfAll))"
  }
}
