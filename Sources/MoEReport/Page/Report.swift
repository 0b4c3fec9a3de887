internal import MoERun

/// A static page about training runs.
public struct Report {
  private let runs: [RecordedRun]

  /// - Parameter runs: one or more; the first is the subject, the others stand beside it where runs are compared.
  public init(_ runs: [RecordedRun]) {
    precondition(!runs.isEmpty, "a report needs a run")
    self.runs = runs
  }

  /// One HTML document, without scripts, that loads nothing: its policy forbids it.
  public var html: String {
    let names = runNames(runs)
    let facts = runs.map(RunFacts.init)
    let sections = [
      lossSection(facts, names), loadSection(facts[0]), specializationSection(facts[0]),
      textSection(facts[0]), generatedSection(facts[0]), timeSection(facts[0]), settingsSection(facts, names),
    ].filter { !$0.isEmpty }
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return """
      <!doctype html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta http-equiv="Content-Security-Policy" content="\(policy)">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta name="color-scheme" content="light dark">
      <title>\(escaped(names.joined(separator: ", "))) · training report</title>
      <style>\(stylesheet(runs[0]))</style>
      </head>
      <body>
      \(headerSection(facts[0], names))
      <main>
      \(sections.joined(separator: "\n"))
      </main>
      \(footer(facts[0]))
      </body>
      </html>

      """
  }

  private func footer(_ facts: RunFacts) -> String {
    var notes = runs.flatMap(\.notes)
    if runs.contains(where: { $0.steps.count > curvePoints }) {
      notes.append(
        "Long series are thinned to be drawn: smoothed curves and strips to \(curvePoints) means, raw losses to the "
          + "lowest and highest value of \(curvePoints) stretches of steps.")
    }
    notes.append("swift-moe \(facts.run.description.version) · nothing on this page comes from elsewhere.")
    return element("footer", [:], notes.map { element("p", [:], escaped($0)) }.joined())
  }
}

/// At most so many points, or pairs of them, are drawn of a curve.
let curvePoints = 300

/// The runs' names, made unlike one another where folders share one.
package func runNames(_ runs: [RecordedRun]) -> [String] {
  runs.enumerated().map { index, run in
    runs.count { $0.name == run.name } == 1 ? run.name : "\(run.name) (\(index + 1))"
  }
}

/// A section with its heading and a sentence below it, which is markup already.
func section(_ id: String, _ title: String, _ lead: String, _ contents: String) -> String {
  element(
    "section", ["id": id, "aria-labelledby": "h-\(id)"],
    element("h2", ["id": "h-\(id)"], escaped(title)) + element("p", ["class": "lead"], lead) + contents)
}

/// A figure with its caption, which is markup already.
func figure(_ contents: String, caption: String, style: String = "") -> String {
  element(
    "figure", style.isEmpty ? [:] : ["class": style], contents + element("figcaption", [:], caption))
}

/// A table that scrolls by itself where it is wider than the page, with its caption, which is markup already.
func scrollingTable(_ caption: String, head: String, body: String, style: String, name: String) -> String {
  let table = element(
    "table", ["class": style, "aria-label": name], element("thead", [:], head) + element("tbody", [:], body))
  return figure(
    element("div", ["class": "scroll", "tabindex": "0", "role": "region", "aria-label": name], table),
    caption: caption)
}
