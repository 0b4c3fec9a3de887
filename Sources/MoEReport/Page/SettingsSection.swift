/// Returns the section with all settings of `run.json`, with one column per run. Settings in which the runs differ
/// are marked.
func settingsSection(_ facts: [RunFacts], _ names: [String]) -> String {
  let runs = facts.map { Dictionary($0.run.settings.map { ($0.path, $0.value) }) { first, _ in first } }
  var paths = facts[0].run.settings.map(\.path)
  let known = Set(paths)
  paths += Set(runs.dropFirst().flatMap(\.keys)).subtracting(known).sorted()
  paths = paths.enumerated().sorted { (rank($0.element), $0.offset) < (rank($1.element), $1.offset) }.map(
    \.element)
  let rows = paths.map { path in
    let values = runs.map { $0[path] ?? "–" }
    return element(
      "tr", Set(values).count > 1 ? ["class": "differs"] : [:],
      element("th", ["scope": "row"], breakable(path))
        + values.map { element("td", [:], breakable($0)) }.joined())
  }
  let lead =
    facts.count == 1
    ? "All of run.json." : "All of run.json; a bar marks the settings in which the runs differ."
  let head =
    element("th", ["scope": "col"], "setting")
    + names.map { element("th", ["scope": "col"], breakable($0)) }.joined()
  return section(
    "settings", "Settings", lead,
    scrollingTable(
      "Nested settings are written with dots: training.steps is the setting steps inside training.",
      head: element("tr", [:], head), body: rows.joined(),
      style: "settings", name: "Settings"))
}

/// Returns the place of a setting: the most important ones first, the list of texts last.
private func rank(_ path: String) -> Int {
  let order = [
    "preset", "seed", "model", "training", "parameters", "flops_per_token", "machine", "version", "format",
  ]
  return order.firstIndex { path == $0 || path.hasPrefix("\($0).") } ?? (path.hasPrefix("data") ? 99 : 50)
}

/// Returns escaped text that may break after dots, slashes and underscores.
private func breakable(_ text: String) -> String {
  text.unicodeScalars.map { "./_".unicodeScalars.contains($0) ? "\(escaped($0))<wbr>" : escaped($0) }.joined()
}
