import MoECore
import MoEReference
import Testing

/// Tests with four tokens of two choices each, few enough to work out the drops by hand.
@Suite struct PermutationTests {
  private let expertIDs = [[0, 1], [0, 1], [1, 0], [0, 1]]
  private let weights = [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]]

  private func permutation(
    capacity: Int?, _ priority: RoutingPolicy.Capacity.Priority, scopeLength: Int = 4
  ) -> Reference.Permutation {
    Reference.permutation(
      expertIDs: expertIDs, keys: weights, expertCount: 3, capacity: capacity, priority: priority,
      scopeLength: scopeLength)
  }

  @Test func firstChoicesOutrankSecondChoices() {
    let result = permutation(capacity: 2, .choiceThenToken)
    #expect(result.slots == [[0, 1], [1, -1], [0, -1], [-1, -1]])
    #expect(result.rowToken == [0, 1, 2, 0])
    #expect(result.slotRow == [[0, 3], [1, -1], [2, -1], [-1, -1]])
    #expect(result.offsets == [0, 2, 4, 4])
    #expect(result.counts == [4, 4, 0])
    #expect(result.droppedCounts == [2, 2, 0])
  }

  @Test func earlierTokensOutrankLater() {
    let result = permutation(capacity: 2, .tokenThenChoice)
    #expect(result.slots == [[0, 0], [1, 1], [-1, -1], [-1, -1]])
    #expect(result.rowToken == [0, 1, 0, 1])
  }

  @Test func largerWeightsOutrankSmallerAndKeepTokenOrder() {
    let result = permutation(capacity: 2, .weight)
    #expect(result.slots == [[0, -1], [-1, 0], [1, -1], [1, -1]])
    #expect(result.rowToken == [0, 3, 1, 2])
  }

  @Test func equalWeightsKeepEarlierTokens() {
    let result = Reference.permutation(
      expertIDs: [[0], [0], [0]], keys: [[0.5], [0.5], [0.5]], expertCount: 1, capacity: 2,
      priority: .weight, scopeLength: 3)
    #expect(result.slots == [[0], [1], [-1]])
  }

  @Test func scopesCompeteApart() {
    let result = permutation(capacity: 1, .choiceThenToken, scopeLength: 2)
    #expect(result.slots == [[0, 0], [-1, -1], [0, -1], [0, -1]])
    #expect(result.rowToken == [0, 3, 0, 2])
    #expect(result.droppedCounts == [2, 2, 0])
  }

  @Test func rowsAreOrderedByScopeThenSlot() {
    let result = permutation(capacity: nil, .choiceThenToken, scopeLength: 2)
    #expect(result.slots == [[0, 0], [1, 1], [0, 1], [0, 1]])
    #expect(result.rowToken == [0, 1, 3, 2, 0, 1, 2, 3])
    #expect(result.droppedCounts == [0, 0, 0])
  }

  @Test func maskedChoicesClaimNothing() {
    let result = Reference.permutation(
      expertIDs: [[-1, -1], [1, 0]], keys: [[0, 0], [0.5, 0.5]], expertCount: 2, capacity: 1,
      scopeLength: 2)
    #expect(result.slots == [[-1, -1], [0, 0]])
    #expect(result.rowToken == [1, 1])
    #expect(result.counts == [1, 1])
  }

  @Test func capacityOfZeroDropsAll() {
    let result = permutation(capacity: 0, .weight)
    #expect(result.rowToken.isEmpty)
    #expect(result.droppedCounts == [4, 4, 0])
  }
}
