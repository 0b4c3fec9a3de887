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
}
