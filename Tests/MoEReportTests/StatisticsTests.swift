import Foundation
import MoEReport
import MoERun
import Testing

/// Statistics against values from hand.
@Suite struct StatisticsTests {
  /// Sums of a few logarithms, each rounded to 2⁻⁵³.
  private static let tolerance = 1e-12

  @Test func expertsThatKnowTheLabel() {
    let found = Specialization(counts: [[10, 0], [0, 30]])
    // H = −¼ log₂ ¼ − ¾ log₂ ¾ for both; the expert tells the label.
    let entropy = 0.25 * 2 + 0.75 * log2(4.0 / 3)
    #expect(
      abs(found.information - entropy) < Self.tolerance && abs(found.maximum - entropy) < Self.tolerance)
    #expect(abs(found.ratio - 1) < Self.tolerance)
    #expect(found.strongest.map { [$0.expert, $0.label] } == [0, 0])
    #expect(found.strongest.map { [$0.share, $0.shareOfAll] } == [1, 0.25])
    #expect(abs(found.chance - 1 / (80 * log(2))) < Self.tolerance)
  }

  @Test func expertsThatKnowNothing() {
    let found = Specialization(counts: [[10, 30], [20, 60], [5, 15]])
    #expect(found.information < Self.tolerance && found.strongest == nil)
    #expect(abs(found.maximum - (0.25 * 2 + 0.75 * log2(4.0 / 3))) < Self.tolerance)
  }

  @Test func halfOfTheLabel() {
    // p = [3 1; 1 3] / 8: I = 1 − H(¼) bits.
    let found = Specialization(counts: [[3, 1], [1, 3]])
    let expected = 1 - (0.25 * 2 + 0.75 * log2(4.0 / 3))
    #expect(abs(found.information - expected) < Self.tolerance && abs(found.maximum - 1) < Self.tolerance)
    #expect(found.strongest.map { [$0.expert, $0.label] } == [0, 0])
    #expect(found.strongest.map { [$0.share, $0.shareOfAll] } == [0.75, 0.5])
  }

  @Test func fewBytesAreNotTheStrongest() {
    // Expert 2 is pure, but has 1 of 201 bytes; a quarter of an even share would be 16.75.
    #expect(Specialization(counts: [[60, 40], [40, 60], [0, 1]]).strongest?.expert == 0)
  }

  @Test(arguments: [[[0, 0], [0, 0]], [[5]], [[5, 0], [0, 0]], [[], []], []]) func nothingToTell(
    _ counts: [[Int]]
  ) {
    let found = Specialization(counts: counts)
    #expect(found.information == 0 && found.ratio == 0 && found.strongest == nil)
    #expect(specializationSentence(found, ["a", "b"], "label", layer: 1).contains("has no information"))
  }

  @Test func sentence() {
    let text = specializationSentence(
      Specialization(counts: [[300, 100], [100, 300]]), ["de", "ru"], "label", layer: 3)
    #expect(
      text
        == "The experts of layer 3 are clearly specialised by label: a byte's expert has 0.189 of at most "
        + "1.00 bits of information about it (18.9\u{202f}%). The most specialised is expert 0: 75\u{202f}% of its bytes are “de”, which is "
        + "50\u{202f}% of all.")
  }

  @Test func variation() {
    #expect(ExpertLoad.variation([4, 4, 4]) == 0 && ExpertLoad.variation([0, 0]) == 0)
    // One expert of five has all: √(E − 1).
    #expect(ExpertLoad.variation([20, 0, 0, 0, 0]) == 2)
    #expect(abs(ExpertLoad.variation([1, 3]) - 0.5) < Self.tolerance)
  }

  @Test func medians() {
    #expect(median([3, 1, 2]) == 2 && median([4, 1, 2, 3]) == 2.5 && median([]) == 0)
  }

  @Test(arguments: [
    (0.1, -4), (0.25, -3), (0.6, -2), (0.8, -1), (0.9, 0), (1.0, 0), (1.09, 0), (1.1, 1), (1.5, 2), (3.0, 3),
    (64, 4),
  ])
  func loadLevels(_ ratio: Double, _ level: Int) {
    #expect(LoadMap.level(ratio) == level)
  }
}
