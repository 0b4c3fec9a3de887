public import ExpertParallel
import MoECore

/// A property of every communicator, which all of its ranks check together.
public struct CommunicatorProperty: Sendable {
  /// The property in words.
  public let name: String
  private let body: @Sendable (any Communicator, inout SeededGenerator, inout Hash) throws -> Void

  init(
    _ name: String,
    _ body: @escaping @Sendable (any Communicator, inout SeededGenerator, inout Hash) throws -> Void
  ) {
    self.name = name
    self.body = body
  }

  /// Checks the property on random cases.
  ///
  /// - Returns: a hash of everything that the ranks received, the same on all ranks and over every transport.
  /// - Throws: ``PropertyFailure`` if it does not hold, or an error of the communicator.
  public func check(_ communicator: any Communicator, seeds: Range<UInt64>) throws -> UInt64 {
    var hash = Hash()
    for seed in seeds {
      // All ranks use the same seed, so each knows what every other rank sends.
      var generator = SeededGenerator(seed: seed &* 0x1_0001 &+ UInt64(communicator.size))
      do {
        try body(communicator, &generator, &hash)
      } catch let failure as PropertyFailure {
        throw PropertyFailure("\(name), seed \(seed), rank \(communicator.rank): \(failure)")
      }
    }
    var all = Hash()
    all.add(try communicator.allGather([hash.value], during: "hashes"))
    return all.value
  }

  /// All properties.
  public static let all = exchanges + reductions + groups
}

/// A property that does not hold, with the case.
public struct PropertyFailure: Error, CustomStringConvertible {
  /// The expected and the actual result.
  public let description: String
  init(_ description: String) { self.description = description }
}

func ensure(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
  if !condition { throw PropertyFailure(reason()) }
}

/// An FNV-1a hash of bytes.
public struct Hash {
  /// The hash of all bytes added so far.
  public private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  /// Makes the hash of no bytes.
  public init() {}

  /// Adds the bytes of values.
  public mutating func add<Element: BitwiseCopyable>(_ values: [Element]) {
    value = unsafe values.withUnsafeBytes { bytes in
      unsafe bytes.reduce(value) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
  }
}

/// The bytes that one rank sends another in a case; every rank can compute them.
func payload(_ count: Int, from source: Int, to destination: Int, case seed: UInt64) -> [UInt8] {
  var generator = SeededGenerator(seed: seed &+ UInt64(source) << 40 &+ UInt64(destination) << 20)
  return (0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next() >> 32) }
}

/// Floats of very different size, so that the order in which they are added shows in the bits.
func numbers(_ count: Int, of rank: Int, case seed: UInt64) -> [Float] {
  var generator = SeededGenerator(seed: seed &+ UInt64(rank) << 40)
  return (0..<count).map { _ in
    let exponent = Int(generator.next() % 24) - 12
    return generator.normal() * Float(sign: .plus, exponent: exponent, significand: 1)
  }
}

extension SeededGenerator {
  /// A number of rows: often none, mostly few, sometimes many.
  mutating func rowCount() -> Int {
    switch next() % 8 {
    case 0, 1: 0
    case 7: Int(next() % 20_000)
    default: Int(next() % 40)
    }
  }

  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}
