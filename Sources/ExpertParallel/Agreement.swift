public import MoE

/// An error that all ranks throw alike, so it is enough that one of them prints it.
public struct SharedFailure: Error, CustomStringConvertible {
  /// The error. A rank that heard of it from another one has its words.
  public let error: any Error

  /// Marks an error as one that all ranks throw.
  public init(error: any Error) { self.error = error }

  /// One plain sentence without a full stop.
  public var description: String { "\(error)" }
}

/// Something that has to be the same on all ranks before they compute together.
public struct SharedFact: Sendable {
  let name: String
  let value: String

  /// Names a value for messages.
  public init(_ name: String, _ value: some CustomStringConvertible) {
    (self.name, self.value) = (name, value.description)
  }

  /// What the bits of a result depend on besides its input: hosts may have different processors.
  public static func instructionSet(_ execution: Execution) -> SharedFact {
    SharedFact("the instruction set (--isa)", execution.instructionSet)
  }
}

extension Communicator {
  /// Checks that all ranks mean the same. A collective.
  ///
  /// - Parameter facts: as many, in the same order, on all ranks.
  /// - Throws: ``SharedFailure`` naming the first fact that differs and the first rank that has another than rank 0;
  ///   `CommunicationError`.
  public func requireAgreement(on facts: [SharedFact]) throws {
    for fact in facts {
      let texts = try allGatherLists(Array(fact.value.utf8), during: "comparing \(fact.name)")
      guard let rank = texts.firstIndex(where: { $0 != texts[0] }) else { continue }
      let (own, first) = (
        String(decoding: texts[rank], as: UTF8.self), String(decoding: texts[0], as: UTF8.self)
      )
      throw SharedFailure(
        error: MoEError.unsupported(
          "\(fact.name) is \(own) on rank \(rank) and \(first) on rank 0, expected the same on all ranks"))
    }
  }
}
