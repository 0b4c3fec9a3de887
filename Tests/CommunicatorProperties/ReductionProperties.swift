import ExpertParallel
import MoECore

/// ((v₀ + v₁) + v₂) + …, element by element.
func rankOrderedSum<Element: FloatingPoint>(_ rows: [[Element]]) -> [Element] {
  rows.dropFirst().reduce(rows[0]) { sums, row in zip(sums, row).map { $0 + $1 } }
}

func sameBits<Element: BitwiseCopyable>(_ left: [Element], _ right: [Element]) -> Bool {
  MessageBuffer(left).elements(of: UInt8.self) == MessageBuffer(right).elements(of: UInt8.self)
}

extension CommunicatorProperty {
  static let reductions = [sums, maxima, scattered]

  /// Lengths on both sides of where the exchange changes its form, and some that ranks cannot share evenly.
  private static func lengths(_ generator: inout SeededGenerator) -> [Int] {
    [0, 1, 7, 1023, 1024, 1025, 1 + generator.below(20_000)]
  }

  static let sums = CommunicatorProperty("sums are taken in order of rank, to the bit") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    for count in lengths(&generator) {
      let seed = generator.next()
      let rows = (0..<size).map { numbers(count, of: $0, case: seed) }
      let sum = try communicator.allReduce(rows[rank], .sum, during: "floats")
      try ensure(sameBits(sum, rankOrderedSum(rows)), "\(count) floats")
      let wide = rows.map { $0.map { Double($0) / 3 } }
      let wideSum = try communicator.allReduce(wide[rank], .sum, during: "doubles")
      try ensure(sameBits(wideSum, rankOrderedSum(wide)), "\(count) doubles")
      let integers = rows.map { $0.map { Int64($0.bitPattern) << 33 } }
      let total = try communicator.allReduce(integers[rank], .sum, during: "integers")
      let expected = integers.dropFirst().reduce(integers[0]) { sums, row in zip(sums, row).map { $0 &+ $1 } }
      try ensure(total == expected, "\(count) integers")
      hash.add(sum)
      hash.add(wideSum)
      hash.add(total)
    }
  }

  static let maxima = CommunicatorProperty("maxima let NaN through and prefer the lower rank") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    for count in lengths(&generator) {
      let seed = generator.next()
      let rows = (0..<size).map { rank in numbers(count, of: rank, case: seed).map(Double.init) }
      let maximum = try communicator.allReduce(rows[rank], .maximum, during: "maxima")
      let expected = (0..<count).map { index in rows.map { $0[index] }.max()! }
      try ensure(maximum == expected, "\(count) doubles")
      hash.add(maximum)
    }
    let last = size - 1
    let special = try communicator.allReduce(
      [rank == last ? Double.nan : 1, rank == 0 ? -0.0 : 0.0], .maximum, during: "special")
    try ensure(special[0].isNaN && special[1].sign == .minus, "NaN and −0 became \(special)")
    let most = try communicator.allReduce(Int64(rank * 3 - 7), .maximum, during: "one integer")
    try ensure(most == Int64(last * 3 - 7), "the greatest rank gave \(most)")
  }

  static let scattered = CommunicatorProperty("reduce-scatter gives each rank its part of the sum") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    let seed = generator.next()
    let counts = (0..<size).map { _ in generator.rowCount() }
    let rows = (0..<size).map { numbers(counts.reduce(0, +), of: $0, case: seed) }
    let part = try communicator.reduceScatter(rows[rank], counts: counts, .sum, during: "parts")
    let first = counts.prefix(rank).reduce(0, +)
    let expected = Array(rankOrderedSum(rows)[first..<first + counts[rank]])
    try ensure(sameBits(part, expected), "the part of counts \(counts)")
    hash.add(part)
  }
}
