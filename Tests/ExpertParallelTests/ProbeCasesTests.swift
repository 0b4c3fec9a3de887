import LayerCases
import MoECore
import SpreadPasses
import Testing

/// The cases that ranks of MPI run cover every rule of routing and every extreme of load.
@Suite struct ProbeCasesTests {
  @Test func everyRuleIsAmongThem() throws {
    let cases = LayerCase.ofProbe
    let policies = cases.map(\.policy)
    func kinds<Value>(_ value: (RoutingPolicy) -> Value?) -> Set<String> {
      Set(policies.compactMap { value($0).map { Mirror(reflecting: $0).children.first?.label ?? "\($0)" } })
    }
    #expect(kinds(\.scoring).count == 6)
    #expect(kinds(\.normalization).count == 4)
    #expect(kinds(\.weightPlacement).count == 2)
    #expect(kinds { $0.capacity?.rule }.count == 7)
    #expect(kinds { $0.capacity?.priority }.count == 7)
    #expect(kinds { $0.capacity?.scope }.count == 3)
    #expect(kinds(\.choice.second).count >= 3 && kinds(\.choice.first).count >= 2)
    #expect(kinds(\.normalizationTime).count == 2)
    #expect(kinds { $0.groups?.score }.count == 2)
    #expect(Set(cases.map(\.temperament)).count == Temperament.allCases.count)
    #expect(cases.contains { $0.expertCount == 1 } && cases.contains { $0.expertCount < 4 })
    #expect(cases.contains(where: \.isMasked) && cases.contains(where: \.hasSelectionBias))
    for ranks in 2...4 {
      let cuts = try cases.map { try SpreadPass($0, ranks: ranks).cuts }
      #expect(cuts.contains { cuts in (0..<ranks).contains { cuts[$0] == cuts[$0 + 1] } })
      #expect(cuts.contains { cuts in Set((0..<ranks).map { cuts[$0 + 1] - cuts[$0] }).count == ranks })
    }
  }
}
