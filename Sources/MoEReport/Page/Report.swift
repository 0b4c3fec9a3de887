internal import MoERun

/// A static HTML page about training runs.
public struct Report {
  private let runs: [RecordedRun]

  /// - Parameter runs: one or more runs. The page is about the first one and compares it with the others.
  public init(_ runs: [RecordedRun]) {
    precondition(!runs.isEmpty, "a report needs a run")
    self.runs = runs
  }

  /// The page as one HTML document. It has no script and loads nothing, and its content security policy forbids both.
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
        "Long series are drawn with fewer points: smoothed curves with \(curvePoints) means, raw losses with the "
          + "lowest and highest value of \(curvePoints) ranges of steps.")
    }
    notes.append("swift-moe \(facts.run.description.version) · nothing on this page comes from elsewhere.")
    return element("footer", [:], notes.map { element("p", [:], escaped($0)) }.joined())
  }
}

/// The largest number of points, or of pairs of points, with which a curve is drawn.
let curvePoints = 300

/// Returns the runs' names, with a number added to names that several runs have.
package func runNames(_ runs: [RecordedRun]) -> [String] {
  runs.enumerated().map { index, run in
    runs.count { $0.name == run.name } == 1 ? run.name : "\(run.name) (\(index + 1))"
  }
}

/// Returns a section with its heading and a paragraph below it, which must be markup already.
func section(_ id: String, _ title: String, _ lead: String, _ contents: String) -> String {
  element(
    "section", ["id": id, "aria-labelledby": "h-\(id)"],
    element("h2", ["id": "h-\(id)"], escaped(title)) + element("p", ["class": "lead"], lead) + contents)
}

/// Returns a figure with its caption, which must be markup already.
func figure(_ contents: String, caption: String, style: String = "") -> String {
  element(
    "figure", style.isEmpty ? [:] : ["class": style], contents + element("figcaption", [:], caption))
}

/// Returns a table that scrolls by itself if it is wider than the page, with its caption, which must be markup already.
func scrollingTable(_ caption: String, head: String, body: String, style: String, name: String) -> String {
  let table = element(
    "table", ["class": style, "aria-label": name], element("thead", [:], head) + element("tbody", [:], body))
  return figure(
    element("div", ["class": "scroll", "tabindex": "0", "role": "region", "aria-label": name], table),
    caption: caption)
}
