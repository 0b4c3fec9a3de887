import MoE
import MoETraining
import Testing

@Suite struct ModelPresetTests {
  @Test(arguments: ModelPreset.allCases, [2, 4, 6])
  func everyPresetIsValidAndSpendsTheFLOPsOfTheDenseModel(preset: ModelPreset, layers: Int) throws {
    func model(_ preset: ModelPreset) -> ModelConfiguration {
      ModelConfiguration(
        contextLength: 64, hiddenSize: 96, headCount: 4,
        blocks: preset.blocks(layerCount: layers, feedForwardSize: 384, expertCount: 8))
    }
    try model(preset).validate()
    #expect(model(preset).flopsPerToken == model(.dense).flopsPerToken)
    #expect(model(preset).blocks.contains(where: \.isMoE) == (preset != .dense))
  }

  /// Every other layer has experts, and the pyramid's last ones have twice as many.
  @Test func pyramidsEndWide() {
    func experts(_ layers: Int) -> [Int] {
      ModelPreset.deepSpeedPR.blocks(layerCount: layers, feedForwardSize: 384, expertCount: 8).map(
        \.expertCount)
    }
    #expect(experts(2) == [1, 8])
    #expect(experts(4) == [1, 8, 1, 16])
    #expect(experts(6) == [1, 8, 1, 8, 1, 16])
    #expect(experts(12) == [1, 8, 1, 8, 1, 8, 1, 8, 1, 16, 1, 16])
  }
}
