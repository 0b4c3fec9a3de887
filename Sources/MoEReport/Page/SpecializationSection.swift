import Foundation
import MoERun

/// Returns the section about labels and kinds of characters of each expert, with one card per layer.
func specializationSection(_ facts: RunFacts) -> String {
  guard let routing = facts.run.routing, !routing.layers.isEmpty else { return "" }
  let cards = routing.layers.indices.flatMap { layer in
    [
      shareTable(routing, layer, routing.byLabel[layer], routing.labels, "label"),
      shareTable(routing, layer, routing.byClass[layer], routing.classes, "kind of character"),
    ]
  }
  let best = routing.layers.indices.map { Specialization(counts: routing.byLabel[$0]) }
  let strongest = best.indices.max { best[$0].ratio < best[$1].ratio }!
  let isEmpty = routing.byLabel.allSatisfy { $0.allSatisfy { $0.allSatisfy { $0 == 0 } } }
  let lead =
    (isEmpty
      ? nothingReached
      : specializationSentence(best[strongest], routing.labels, "label", layer: routing.layers[strongest]))
    + " Measured on held-out text at step \(grouped(routing.step))."
  return section(
    "experts", "What the experts specialise in", escaped(lead),
    element("div", ["class": "cards two"], cards.joined()))
}

/// Returns one or two sentences that say how specialised a layer's experts are.
package func specializationSentence(_ found: Specialization, _ names: [String], _ noun: String, layer: Int)
  -> String
{
  if found.maximum < 1e-12 {
    return
      "In layer \(layer) an expert has no information about the \(noun): one expert, or one \(noun), has all bytes."
  }
  let degree =
    switch found.ratio {
    case ..<0.02: "hardly"
    case ..<0.1: "weakly"
    case ..<0.3: "clearly"
    default: "strongly"
    }
  var text =
    "The experts of layer \(layer) are \(degree) specialised by \(noun): a byte's expert has "
    + "\(short(found.information)) of at most \(short(found.maximum)) bits of information about it (\(percent(found.ratio))"
  text +=
    found.chance > found.information / 10 ? ", of which chance makes about \(short(found.chance)))." : ")."
  if let expert = found.strongest {
    text +=
      " The most specialised is expert \(expert.expert): \(percent(expert.share)) of its bytes are "
      + "“\(names[expert.label])”, which is \(percent(expert.shareOfAll)) of all."
  }
  return text
}

private let nothingReached = "No byte of the held-out text reached an expert."

/// The largest number of experts that have a row.
private let rowLimit = 32

private func shareTable(
  _ routing: RoutingMap, _ layer: Int, _ counts: [[Int]], _ names: [String], _ noun: String
) -> String {
  let totals = names.indices.map { column in counts.reduce(0) { $0 + $1[column] } }
  let all = totals.reduce(0, +)
  let found = Specialization(counts: counts)
  let title = "Layer \(routing.layers[layer])" + element("small", [:], " expert × \(noun)")
  let sentence = specializationSentence(found, names, noun, layer: routing.layers[layer])
  if all == 0 {
    return element(
      "article", ["class": "card"],
      element("h3", [:], title) + element("p", [:], nothingReached))
  }
  func share(_ expert: Int, _ column: Int) -> Double {
    totals[column] == 0 ? 0 : Double(counts[expert][column]) / Double(totals[column])
  }
  let experts = shownExperts(counts)
  // The ramp ends at three times the balanced share or above, so that a nearly balanced table has no strong colours.
  let most = experts.flatMap { expert in names.indices.map { share(expert, $0) } }.max() ?? 1
  let top = max(most, min(1, 3 / Double(counts.count)))
  let digits = counts.count > 24 ? 1 : 0
  let rows = experts.map { expert in
    let mean = Double(counts[expert].reduce(0, +)) / Double(all)
    let cells = names.indices.map { column -> String in
      if totals[column] == 0 { return element("td", ["class": "none"], "–") }
      let value = share(expert, column)
      let step = nearest(value / top * Double(Palette.rampCount - 1))
      let title =
        "Expert \(expert) gets \(percent(value)) of “\(names[column])”, \(grouped(counts[expert][column])) bytes"
      return element("td", ["class": "q\(step)", "title": title], cell(value, digits))
    }
    return element(
      "tr", [:],
      element("th", ["scope": "row"], "\(expert)") + cells.joined()
        + element("td", ["class": "all"], cell(mean, digits)))
  }
  let omitted =
    experts.count < counts.count
    ? " The \(experts.count) of \(counts.count) most specialised experts are shown." : ""
  let head = element(
    "tr", [:],
    element("th", ["scope": "col"], "<span class=\"wide\">expert</span>")
      + names.map { element("th", ["scope": "col"], hyphenated($0)) }.joined()
      + element("th", ["scope": "col", "class": "all"], "all"))
  let caption =
    "Per cent of each column's bytes that go to each expert; balanced is \(percent(1 / Double(counts.count)))."
  return element(
    "article", ["class": "card"],
    element("h3", [:], title) + element("p", [:], escaped(sentence))
      + scrollingTable(
        escaped(caption + omitted), head: head, body: rows.joined(), style: "heat",
        name: "Layer \(routing.layers[layer]), expert × \(noun)"))
}

/// Returns an escaped name that may break in the middle if it is one long word.
private func hyphenated(_ name: String) -> String {
  let isLong = name.count > 9 && name.allSatisfy(\.isLetter)
  return isLong
    ? escaped(name.prefix(name.count / 2)) + "&shy;" + escaped(name.dropFirst(name.count / 2)) : escaped(name)
}

/// Returns a share in per cent, without the sign.
private func cell(_ share: Double, _ digits: Int) -> String {
  let value = share * 100
  if value == 0 { return "0" }
  return digits == 0 ? (value < 0.5 ? "<1" : fixed(value, 0)) : (value < 0.05 ? "<.1" : fixed(value, digits))
}

/// Returns all experts, or the ``rowLimit`` experts that add most to the mutual information, in ascending order.
private func shownExperts(_ counts: [[Int]]) -> [Int] {
  if counts.count <= rowLimit { return Array(counts.indices) }
  let all = Double(counts.joined().reduce(0, +))
  let totals = counts[0].indices.map { column in counts.reduce(0.0) { $0 + Double($1[column]) } }
  let gains = counts.map { row -> Double in
    let sum = Double(row.reduce(0, +))
    return row.enumerated().reduce(0) { gain, entry in
      let (column, count) = (entry.offset, Double(entry.element))
      return count == 0 ? gain : gain + count / all * log2(count * all / (sum * totals[column]))
    }
  }
  return counts.indices.sorted { (gains[$1], $0) < (gains[$0], $1) }.prefix(rowLimit).sorted()
}
