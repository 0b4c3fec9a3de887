internal import MoERun

/// A character of a sample, and the places of its bytes.
package struct SampleCharacter: Equatable {
  /// The character, not yet escaped; U+FFFD if the bytes are not UTF-8.
  package var scalar: Unicode.Scalar
  package var bytes: Range<Int>

  /// Decodes bytes. Each error that the decoder finds becomes one replacement character.
  package static func decode(_ bytes: [UInt8]) -> [SampleCharacter] {
    var parser = Unicode.UTF8.ForwardParser()
    var iterator = bytes.makeIterator()
    var characters: [SampleCharacter] = []
    var start = 0
    while true {
      let (scalar, length): (Unicode.Scalar, Int)
      switch parser.parseScalar(from: &iterator) {
      case .valid(let encoded): (scalar, length) = (Unicode.UTF8.decode(encoded), encoded.count)
      case .error(let count): (scalar, length) = ("\u{fffd}", count)
      case .emptyInput: return characters
      }
      characters.append(SampleCharacter(scalar: scalar, bytes: start..<start + length))
      start += length
    }
  }

  /// The markup of the character. Line ends and tabs are visible, so that their colour is visible too.
  var markup: String {
    switch scalar {
    case "\n": "↵\n"
    case "\t": "⇥\t"
    default: escaped(scalar)
    }
  }
}

/// Returns the section of held-out text, with each character in the colour of its expert. Radio buttons choose the
/// layer.
func textSection(_ facts: RunFacts) -> String {
  guard let routing = facts.run.routing, !routing.samples.isEmpty, !routing.layers.isEmpty else { return "" }
  let samples = shownSamples(routing)
  var views = routing.layers.indices.map { layer in
    (name: "Layer \(routing.layers[layer])", body: expertView(routing, layer, samples))
  }
  views.append(("Loss", lossView(samples)))
  let radios = views.enumerated().map { index, view in
    "<input type=\"radio\" name=\"view\" id=\"v\(index)\"\(index == 0 ? " checked" : "")>"
      + element("label", ["for": "v\(index)"], escaped(view.name))
  }
  let panels = views.enumerated().map { element("div", ["id": "w\($0)", "class": "view"], $1.body) }
  let whole = zip(samples, routing.samples).allSatisfy {
    $0.characters.last?.bytes.upperBound == $1.bytes.count
  }
  let lead =
    "Held-out text at step \(grouped(routing.step)). The colour of a character is the expert that its first byte "
    + "chose first; point at it to read which."
    + (whole ? "" : " Only the beginning of each passage is shown.")
  return section(
    "text", "Text by expert", escaped(lead),
    element(
      "div", ["class": "switch card", "role": "group", "aria-label": "What the colours show"],
      radios.joined() + element("div", ["class": "views"], panels.joined())))
}

/// Returns the style rules that show the view of the checked button.
func viewRules(_ run: RecordedRun) -> String {
  let count = (run.routing?.layers.count ?? 0) + 1
  let rules = (0..<count).map { "#v\($0):checked~.views>#w\($0)" }.joined(separator: ",")
  return "\(rules){display:block}"
}

/// The part of a passage that is shown.
private struct ShownSample {
  var sample: RoutingMap.Sample
  var characters: [SampleCharacter]
}

/// Returns the beginnings of the samples. Their length is limited so that the views of all layers make a small page.
private func shownSamples(_ routing: RoutingMap) -> [ShownSample] {
  let views = routing.layers.count + 1
  let limit = max(40, 12_000 / (views * routing.samples.count))
  return routing.samples.prefix(40).map {
    ShownSample(sample: $0, characters: Array(SampleCharacter.decode($0.bytes.map(UInt8.init)).prefix(limit)))
  }
}

private func expertView(_ routing: RoutingMap, _ layer: Int, _ samples: [ShownSample]) -> String {
  var occurring: [Int: Int] = [:]
  let passages = samples.map { shown in
    passage(shown) { character in
      let expert = shown.sample.experts[layer][character.bytes.lowerBound]
      occurring[expert, default: 0] += 1
      return expert < 0
        ? ("dropped", "dropped") : (expertStyle(expert, of: routing.experts[layer]), "\(expert)")
    }
  }
  let experts = occurring.keys.filter { $0 >= 0 }.sorted { (occurring[$1]!, $0) < (occurring[$0]!, $1) }
  let shown = routing.experts[layer] <= 16 ? Array(0..<routing.experts[layer]) : experts.prefix(24).sorted()
  let chips = shown.map {
    element("i", ["class": "chip \(expertStyle($0, of: routing.experts[layer]))"], "\($0)")
  }
  let rest = routing.experts[layer] > 16 && experts.count > shown.count ? experts.count - shown.count : 0
  let dropped = occurring[-1] == nil ? "" : element("i", ["class": "chip dropped"], "dropped or masked")
  return element(
    "p", ["class": "key"],
    element("span", [:], "expert") + chips.joined() + dropped
      + (rest == 0 ? "" : element("span", [:], "and \(counted(rest, "more expert"))"))) + passages.joined()
}

private func lossView(_ samples: [ShownSample]) -> String {
  let last = Palette.rampCount - 1
  // A byte about which nothing is known costs eight bits.
  let top = 8 / bitsPerNat
  let passages = samples.map { shown in
    passage(shown) { character in
      let loss = character.bytes.reduce(0) { $0 + Double(shown.sample.loss[$1]) }
      let step = min(last, max(0, nearest(loss / top * Double(last))))
      return (
        "q\(step)", "\(fixed(top * Double(step) / Double(last), 1))\(step == last ? " or more" : "") nats"
      )
    }
  }
  let swatches = (0...last).map { element("i", ["class": "swatch q\($0)"]) }
  return element(
    "p", ["class": "key"],
    element("span", [:], "loss of each character, nats: 0")
      + element("span", ["class": "scale"], swatches.joined())
      + element("span", [:], "\(fixed(top, 1)) (8 bits) or more")) + passages.joined()
}

/// Returns a passage in which neighbouring characters of one class share an element.
private func passage(
  _ shown: ShownSample, _ style: (SampleCharacter) -> (name: String, title: String)
) -> String {
  var markup = ""
  var (current, title, run) = ("", "", "")
  func flush() { if !run.isEmpty { markup += "<i class=\"\(current)\" title=\"\(title)\">\(run)</i>" } }
  for character in shown.characters {
    let next = style(character)
    if next.name != current {
      flush()
      (current, title, run) = (next.name, next.title, "")
    }
    run += character.markup
  }
  flush()
  let label = escaped(shown.sample.label)
  return element("h3", ["class": "label"], label) + element("p", ["class": "passage", "dir": "auto"], markup)
}

/// Returns the class of an expert's colour. Up to eight experts have a palette of their own.
func expertStyle(_ expert: Int, of count: Int) -> String { count <= 8 ? "e\(expert)" : "m\(expert)" }

/// Returns the classes of the experts that a run's samples can show.
func expertStyles(_ run: RecordedRun) -> [(name: String, index: Int, count: Int)] {
  let counts = run.routing?.experts ?? []
  var styles: [(String, Int, Int)] = []
  if counts.contains(where: { $0 <= 8 }) { styles += (0..<8).map { ("e\($0)", $0, 8) } }
  if let most = counts.max(), most > 8 { styles += (0..<most).map { ("m\($0)", $0, most) } }
  return styles
}

/// Returns the section with the text that the model wrote.
func generatedSection(_ facts: RunFacts) -> String {
  guard let sample = facts.run.sample, !sample.isEmpty else { return "" }
  let limit = 6000
  let text = sample.unicodeScalars.prefix(limit).map(escaped).joined()
  let isCut = sample.unicodeScalars.count > limit
  return section(
    "sample", "What the model writes",
    isCut
      ? "The first \(grouped(limit)) characters of the sample from the end of training."
      : "A sample from the end of training.",
    element("p", ["class": "passage card", "dir": "auto"], text))
}
