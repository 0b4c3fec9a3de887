package import MoE

/// An error that all ranks throw, so only one of them needs to print it.
public struct SharedFailure: Error, CustomStringConvertible {
  /// The error. A rank that got it from another rank has only its text.
  public let error: any Error

  /// Marks an error as one that all ranks throw.
  public init(error: any Error) { self.error = error }

  /// One plain sentence without a full stop.
  public var description: String { "\(error)" }
}

/// A value that all ranks must have in common before they compute together.
package struct SharedFact: Sendable {
  /// The name by which messages call the value, such as "--dtype".
  package let name: String
  /// The value in words.
  package let value: String

  /// Names a value for messages.
  package init(_ name: String, _ value: some CustomStringConvertible) {
    (self.name, self.value) = (name, value.description)
  }

  /// The instruction set: the bits of a result depend on it, and hosts may have different processors.
  package static func instructionSet(_ execution: Execution) -> SharedFact {
    SharedFact("the instruction set (--isa)", execution.instructionSet)
  }
}

/// An error for ranks that were started with different settings. All ranks throw it before any of them computes.
///
/// The description is one plain sentence without a full stop. It names each fact that differs and the ranks that have
/// each value, so it is the same on all ranks.
public struct Disagreement: Error, Sendable, CustomStringConvertible {
  /// A fact that differs.
  public struct Fact: Sendable {
    /// The name of the fact.
    public var name: String
    /// The values in order of the lowest rank that has each, with their ranks; nil for ranks without the fact.
    public var values: [(value: String?, ranks: [Int])]
  }

  /// The facts that differ, at least one.
  public var facts: [Fact]

  /// Compares the facts of all ranks, in order of rank; returns nil if all are equal.
  init?(_ facts: [[(name: String, value: String)]]) {
    var names: [String] = []
    for fact in facts.joined() where !names.contains(fact.name) { names.append(fact.name) }
    self.facts = names.compactMap { name in
      var values: [(value: String?, ranks: [Int])] = []
      for (rank, facts) in facts.enumerated() {
        let value = facts.first { $0.name == name }?.value
        if let index = values.firstIndex(where: { $0.value == value }) {
          values[index].ranks.append(rank)
        } else {
          values.append((value, [rank]))
        }
      }
      return values.count > 1 ? Fact(name: name, values: values) : nil
    }
    if self.facts.isEmpty { return nil }
  }

  /// One plain sentence without a full stop.
  public var description: String {
    let facts = facts.map { fact in
      let values = fact.values.map { "\($0.value ?? "not set") on \(Self.name($0.ranks))" }
      return "\(fact.name) is \(values.joined(separator: " and "))"
    }
    return
      "the ranks were asked for different things: \(facts.joined(separator: "; ")); expected the same on all ranks"
  }

  /// Returns ascending ranks as "rank 3" or "ranks 0–2, 5".
  private static func name(_ ranks: [Int]) -> String {
    var runs: [ClosedRange<Int>] = []
    for rank in ranks {
      if let last = runs.last, last.upperBound == rank - 1 {
        runs[runs.count - 1] = last.lowerBound...rank
      } else {
        runs.append(rank...rank)
      }
    }
    let names = runs.map { run in
      switch run.count {
      case 1: "\(run.lowerBound)"
      case 2: "\(run.lowerBound), \(run.upperBound)"
      default: "\(run.lowerBound)–\(run.upperBound)"
      }
    }
    return "\(ranks.count == 1 ? "rank" : "ranks") \(names.joined(separator: ", "))"
  }
}

extension Communicator {
  /// Checks that all ranks have the same facts. A collective of one exchange, for any number of facts.
  ///
  /// - Parameter facts: this rank's facts, each name once. No name or value has a zero byte.
  /// - Throws: ``Disagreement`` on all ranks if a fact differs or a rank lacks it; `CommunicationError`.
  package func requireAgreement(on facts: [SharedFact]) throws {
    var bytes: [UInt8] = []
    for text in facts.flatMap({ [$0.name, $0.value] }) { bytes += Array(text.utf8) + [0] }
    let lists = try allGatherLists(bytes, during: "the comparison of what ranks were asked for")
    let all = lists.map { list in
      let texts = list.split(separator: 0, omittingEmptySubsequences: false).dropLast().map {
        String(decoding: $0, as: UTF8.self)
      }
      return stride(from: 0, to: texts.count - 1, by: 2).map { (name: texts[$0], value: texts[$0 + 1]) }
    }
    if let disagreement = Disagreement(all) { throw disagreement }
  }
}
