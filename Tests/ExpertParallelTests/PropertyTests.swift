import CommunicatorProperties
import ExpertParallel
import Testing

@Suite struct PropertyTests {
  @Test(arguments: [1, 2, 3, 4, 8], CommunicatorProperty.all.indices)
  func holdsAmongThreads(ranks: Int, index: Int) throws {
    let property = CommunicatorProperty.all[index]
    let hashes = try LocalCommunicator.run(ranks: ranks) { try property.check($0, seeds: 0..<6) }
    #expect(Set(hashes).count == 1, "\(property.name)")
  }

  @Test func manyMoreRanksThanProcessors() throws {
    let sums = try LocalCommunicator.run(ranks: 48) { communicator in
      let rows = try communicator.exchange(Array(0..<48).map { $0 + 100 * communicator.rank }, during: "rows")
      #expect(rows == (0..<48).map { communicator.rank + 100 * $0 })
      return try communicator.allReduce([Int](repeating: communicator.rank, count: 5000), .sum, during: "sum")
        .last
    }
    #expect(sums == [Int?](repeating: 48 * 47 / 2, count: 48))
  }
}
