import MoECore
import Testing

/// Tests of the capacity formulas at sizes for which the published systems give different capacities.
@Suite struct CapacityRuleTests {
  private func capacity(_ rule: CapacityRule, _ tokens: Int, _ experts: Int, _ k: Int = 1) -> Int {
    rule.capacity(tokenCount: tokens, expertCount: experts, expertsPerToken: k)
  }

  /// S = 100, E = 8, factor 1¼: S·factor/E is 15.625.
  @Test func meshTensorFlowTruncatesWhereOthersDoNot() {
    #expect(capacity(.meshTensorFlow(factor: 1.25), 100, 8) == 15)
    #expect(capacity(.lingvo(factor: 1.25), 100, 8) == 16)
    #expect(capacity(.flaxformer(factor: 1.25), 100, 8) == 16)
    #expect(capacity(.deepSpeed(factor: 1.25, minimum: 4), 100, 8) == 16)
    #expect(capacity(.megatron(factor: 1.25), 100, 8) == 16)
    #expect(capacity(.exact(numerator: 5, denominator: 4, minimum: 0), 100, 8) == 16)
  }

  /// S = 2000, E = 64, factor 1¼: S·factor/E is 39.0625.
  @Test func flaxformerRoundsToNearest() {
    #expect(capacity(.meshTensorFlow(factor: 1.25), 2000, 64) == 39)
    #expect(capacity(.flaxformer(factor: 1.25), 2000, 64) == 39)
    #expect(capacity(.lingvo(factor: 1.25), 2000, 64) == 40)
    #expect(capacity(.deepSpeed(factor: 1.25, minimum: 4), 2000, 64) == 40)
    #expect(capacity(.megatron(factor: 1.25), 2000, 64) == 40)
    #expect(capacity(.exact(numerator: 5, denominator: 4, minimum: 0), 2000, 64) == 40)
  }

  /// S = 1000, E = 10: the product is on one side of an integer in fp32 and on the other side in Double.
  @Test func deepSpeedRoundsInSinglePrecision() {
    #expect(capacity(.deepSpeed(factor: 1.1, minimum: 4), 1000, 10) == 110)
    #expect(capacity(.megatron(factor: 1.1), 1000, 10) == 111)
    #expect(capacity(.exact(numerator: 11, denominator: 10, minimum: 0), 1000, 10) == 110)
    #expect(capacity(.deepSpeed(factor: 1.2, minimum: 4), 1000, 10) == 121)
    #expect(capacity(.megatron(factor: 1.2), 1000, 10) == 120)
    #expect(capacity(.exact(numerator: 12, denominator: 10, minimum: 0), 1000, 10) == 120)
  }

  @Test func minimaAndTheMultipleOfFour() {
    #expect(capacity(.meshTensorFlow(factor: 1), 8, 8) == 4)
    #expect(capacity(.flaxformer(factor: 1), 8, 8) == 4)
    #expect(capacity(.lingvo(factor: 1), 4, 8) == 4)
    #expect(capacity(.lingvo(factor: 1), 40, 8) == 8)
    #expect(capacity(.deepSpeed(factor: 1, minimum: 4), 8, 8) == 4)
    #expect(capacity(.exact(numerator: 1, denominator: 1, minimum: 2), 8, 8) == 2)
    #expect(capacity(.fixed(64), 8, 8) == 64)
  }

  /// Every larger capacity is returned as 2³¹ rows, and no intermediate product overflows.
  @Test(arguments: [
    CapacityRule.exact(numerator: .max, denominator: 1, minimum: 0), .lingvo(factor: 1e300),
    .lingvo(factor: 0.1, minimum: .max), .flaxformer(factor: 1e300), .deepSpeed(factor: 1e300, minimum: 4),
    .megatron(factor: 1e300),
  ])
  func factorsBeyondAllBatches(_ rule: CapacityRule) {
    #expect(capacity(rule, 7, 8, 2) == 1 << 31)
  }

  @Test func exactWhereTheProductNeedsMoreThan64Bits() {
    let rule = CapacityRule.exact(
      numerator: 1_000_000_000_000_000_001, denominator: 1_000_000_000, minimum: 0)
    #expect(capacity(rule, 80, 1000, 2) == 160_000_001)
  }

  @Test func choicesMultiplyTheShare() {
    #expect(capacity(.exact(numerator: 1, denominator: 1, minimum: 0), 100, 8, 2) == 25)
    #expect(capacity(.deepSpeed(factor: 1, minimum: 4), 100, 8, 2) == 25)
    #expect(capacity(.megatron(factor: 1), 100, 8, 2) == 25)
  }
}
