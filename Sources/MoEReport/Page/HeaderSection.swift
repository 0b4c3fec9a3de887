internal import MoERun

/// Returns the head of the page: the name, a paragraph about the training, and the most important figures.
func headerSection(_ facts: RunFacts, _ names: [String]) -> String {
  let beside =
    names.count == 1
    ? ""
    : element("p", ["class": "beside"], "beside \(escaped(listed(Array(names.dropFirst()))))")
  return element(
    "header", [:],
    element("p", ["class": "kicker"], "Training report") + element("h1", [:], escaped(names[0])) + beside
      + element("p", ["class": "lead"], escaped(summary(facts))) + figures(facts))
}

/// Returns the paragraph that says what was trained, on which texts and on which machine.
private func summary(_ facts: RunFacts) -> String {
  let run = facts.run.description
  let share =
    run.parameters.total == 0 ? 0 : Double(run.parameters.activePerToken) / Double(run.parameters.total)
  let size = abbreviated(Double(run.parameters.total))
  let active =
    share < 0.9995
    ? ", of which \(abbreviated(Double(run.parameters.activePerToken))) (\(percent(share))) are used for each byte"
    : ""
  var labels: [String] = []
  for file in run.data.files where !labels.contains(file.label) { labels.append(file.label) }
  let texts = labels.count <= 12 ? listed(labels) : "\(listed(Array(labels.prefix(11)))) …"
  let bytes = abbreviated(Double(run.data.trainBytes))
  return "A “\(run.preset)” model of \(size) parameters\(active). \(experts(facts)) "
    + "It was trained for \(counted(facts.steps, "step")) of \(grouped(facts.run.steps[0].tokens)) bytes, "
    + "on \(bytes)B of \(counted(run.data.files.count, "file")) (\(texts)), on \(run.machine.cpu) with "
    + "\(run.machine.isa) and \(counted(run.machine.threads, "thread"))."
}

/// Returns the sentence about layers, experts and choices.
private func experts(_ facts: RunFacts) -> String {
  let counts = facts.layers.map(\.experts)
  guard let choices = facts.choicesPerToken else { return "It is dense: no layer has experts." }
  let layers = counted(counts.count, "Mixture-of-Experts layer")
  let sizes =
    Set(counts).count == 1 ? counted(counts[0], "expert") : "\(listed(counts.map(String.init))) experts"
  let each = counts.count > 1 && Set(counts).count == 1 ? " each" : ""
  let chosen = choices == choices.rounded() ? grouped(nearest(choices)) : fixed(choices, 2)
  return "It has \(layers) with \(sizes)\(each); a byte goes to \(chosen) of them."
}

private func figures(_ facts: RunFacts) -> String {
  let parameters = facts.run.description.parameters
  var list: [(name: String, value: String, unit: String, note: String)] = []
  if let validation = facts.validation {
    list.append(
      (
        "Validation loss", fixed(validation.last, 3), "nats/byte",
        "\(fixed(validation.last * bitsPerNat, 3)) bits/byte"
      ))
  }
  list.append(
    (
      "Training loss", fixed(facts.finalLoss, 3), "nats/byte",
      "\(fixed(facts.finalLoss * bitsPerNat, 3)) bits/byte, mean of \(facts.tailName)"
    ))
  list.append(
    (
      "Parameters", abbreviated(Double(parameters.total)), "",
      "\(abbreviated(Double(parameters.activePerToken))) active per byte, \(abbreviated(Double(parameters.experts))) in experts"
    ))
  list.append(
    (
      "Speed", grouped(nearest(facts.tokensPerSecond)), "tokens/s",
      "median; \(duration(facts.seconds)) of training"
    ))
  let items = list.map { item in
    let unit = item.unit.isEmpty ? "" : element("small", [:], " \(item.unit)")
    return element(
      "div", [:],
      element("dt", [:], escaped(item.name)) + element("dd", [:], escaped(item.value) + unit)
        + element("dd", ["class": "note"], escaped(item.note)))
  }
  return element("dl", ["class": "figures"], items.joined())
}

/// Returns a time in seconds, minutes, or hours and minutes.
func duration(_ seconds: Double) -> String {
  if seconds < 120 { return "\(short(seconds))\u{202f}s" }
  let minutes = nearest(seconds / 60)
  return minutes < 120 ? "\(minutes)\u{202f}min" : "\(minutes / 60)\u{202f}h \(minutes % 60)\u{202f}min"
}
