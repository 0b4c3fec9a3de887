import Foundation

/// The page of the rules that published systems have, rendered from `Tests/Documents/rules.json`.
package struct RulesPage {
  package static let path = "Sources/MoE/MoE.docc/PublishedRules.md"
  private static let source = "Tests/Documents/rules.json"

  package let sections: [Section]

  /// Rules of one kind: a table of the page.
  package struct Section: Decodable {
    package let title: String
    package let rows: [Rule]

    private enum CodingKeys: String, CodingKey {
      case title = "section"
      case rows
    }
  }

  /// A rule of published systems: a row of a table.
  package struct Rule: Decodable {
    package let rule: String
    /// The systems that have the rule, and those that have a part of it or another form.
    let systems: [System]
    let inPart: [System]?
    package let ours: Answer
    /// The preset or the API of a rule that is here, and the function of a test that holds it.
    let how: String?
    package let test: String?
    /// The reason why a rule is not here, or what is missing.
    package let reason: String?
  }

  package enum Answer: String, Decodable {
    case yes
    case no
  }

  enum System: String, Decodable, CaseIterable {
    case switchTransformer = "Switch"
    case glam = "GLaM"
    case deepSpeed = "DeepSpeed"
    case tutel = "Tutel"
    case megatron = "Megatron-Core"
    case megaBlocks = "MegaBlocks"
    case fastMoE = "FastMoE"
    case transformers
    case llamaCpp = "llama.cpp"
    case mlxSwift = "mlx-swift-lm"
  }

  /// Reads the rules.
  ///
  /// - Throws: ``DocumentError`` if the file has another form, or a rule lacks what its answer needs.
  package init(repository: Repository) throws {
    let data = Data(try repository.text(Self.source).utf8)
    do {
      sections = try JSONDecoder().decode([Section].self, from: data)
    } catch {
      throw DocumentError("\(Self.source) is no list of rules: \(error)")
    }
    for rule in sections.flatMap(\.rows) {
      if let complaint = rule.complaint { throw DocumentError("\(Self.source): “\(rule.rule)” \(complaint)") }
    }
  }

  /// The page.
  package var markdown: String {
    let rules = sections.flatMap(\.rows)
    let here = rules.count { $0.ours == .yes }
    let head = """
      # Rules of published systems

      The rules of routing, capacity and balance that ten published systems have, and which of them are here.

      ## Overview

      <!-- Written by `make rules` from \(Self.source); do not edit. -->

      A tick means that the whole rule is here and that the named test holds it. A dash means that the rule is
      missing or that only a part of it is here; the reason says which part. \(here) of \(rules.count) rules have
      a tick.

      The names of presets are those of <doc:RoutingRules>. Systems in brackets have a part of the rule or another
      form of it. A system that is not named was not seen to have the rule. “Switch” is mesh-tensorflow and
      flaxformer, and “GLaM” is lingvo.
      """
    return ([head] + sections.map(\.markdown)).joined(separator: "\n\n") + "\n"
  }
}

extension RulesPage.Section {
  fileprivate var markdown: String {
    """
    ## \(title)

    | rule | systems | here | by, or the reason | test |
    |---|---|---|---|---|

    """ + rows.map(\.line).joined(separator: "\n")
  }
}

extension RulesPage.Rule {
  /// The value that the rule lacks or has too much; nil for a rule that is complete.
  fileprivate var complaint: String? {
    func isGiven(_ text: String?) -> Bool { text?.isEmpty == false }
    switch ours {
    case .yes where !isGiven(how) || !isGiven(test): return "is here, but has no “how” or no “test”"
    case .yes where reason != nil: return "is here, but has a “reason”"
    case .no where !isGiven(reason): return "is not here, but has no “reason”"
    case .no where how != nil || test != nil: return "is not here, but has a “how” or a “test”"
    case .yes, .no: return Set(systems + (inPart ?? [])).count == named.count ? nil : "names a system twice"
    }
  }

  /// The names of the systems, those of a part in brackets.
  private var named: [String] { systems.map(\.rawValue) + (inPart ?? []).map { "(\($0.rawValue))" } }

  /// The row of the table.
  fileprivate var line: String {
    let cells = [
      rule, named.isEmpty ? "none of these" : named.joined(separator: ", "), ours == .yes ? "✓" : "–",
      how ?? reason ?? "", test.map { "`\($0)`" } ?? "",
    ]
    return "| " + cells.map { $0.replacing("|", with: "\\|") }.joined(separator: " | ") + " |"
  }
}
