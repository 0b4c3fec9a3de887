package import MoE

/// An error that all ranks throw, so that one rank alone needs to print it.
public struct SharedFailure: Error, CustomStringConvertible {
  /// The error. A rank that was told of it by another rank has an error with the same text.
  public let error: any Error

  /// Marks an error as one that all ranks throw.
  package init(error: any Error) { self.error = error }

  /// The error as one sentence, without a full stop.
  public var description: String { "\(error)" }
}

/// A value that has to be the same on all ranks before they compute together.
package struct SharedFact: Sendable {
  let name: String
  let value: String

  /// Makes a fact from a value.
  ///
  /// - Parameters:
  ///   - name: the name of the value in errors.
  ///   - value: the value on this rank; ranks compare its description.
  package init(_ name: String, _ value: some CustomStringConvertible) {
    (self.name, self.value) = (name, value.description)
  }

  /// The instruction set, on which the bits of a result depend: hosts may have different processors.
  package static func instructionSet(_ execution: Execution) -> SharedFact {
    SharedFact("the instruction set (--isa)", execution.instructionSet)
  }
}

extension Communicator {
  /// Checks that facts are the same on all ranks. A collective.
  ///
  /// - Parameter facts: the same number of facts, in the same order, on all ranks.
  /// - Throws: ``SharedFailure``, which names the first fact that differs and the first rank on which it differs from rank 0;
  ///   `CommunicationError`.
  package func requireAgreement(on facts: [SharedFact]) throws {
    for fact in facts {
      let texts = try allGatherLists(Array(fact.value.utf8), during: "comparing \(fact.name)")
      guard let rank = texts.firstIndex(where: { $0 != texts[0] }) else { continue }
      let (value, first) = (
        String(decoding: texts[rank], as: UTF8.self), String(decoding: texts[0], as: UTF8.self)
      )
      throw SharedFailure(
        error: MoEError.unsupported(
          "\(fact.name) is \(value) on rank \(rank) and \(first) on rank 0, expected the same on all ranks"))
    }
  }
}
