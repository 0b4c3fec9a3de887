import Foundation
import MoECheckpoints
import MoECore
import Testing

/// Checkpoints written by transformers load, and every parameter has its shape.
@Suite struct FixtureTests {
  @Test(arguments: fixtureNames)
  func everyParameterHasItsShape(_ fixture: String) throws {
    let folder = fixtures.appending(path: fixture)
    let checkpoint = try Checkpoint(folder: folder.path)
    let expected = try SafetensorsFile(path: folder.appending(path: "expected.safetensors").path)
    let inputs = expected.names.filter { $0.hasSuffix(".input") }
    #expect(
      Set(checkpoint.moeLayers)
        == Set(inputs.map { $0.replacing("layers.", with: "").replacing(".input", with: "") }))
    for name in checkpoint.moeLayers {
      let layer = try checkpoint.layer(name)
      let configuration = layer.configuration
      let (hidden, inner) = (configuration.hiddenSize, configuration.feedForwardSize)
      let weights = try MoEWeights(reading: layer, for: configuration)
      #expect(weights.routerWeights.weight.shape == [configuration.expertCount, hidden])
      for bias in [weights.routerWeights.bias, weights.routerWeights.selectionBias] {
        #expect(bias?.count ?? configuration.expertCount == configuration.expertCount)
      }
      #expect(weights.experts.count == configuration.expertCount)
      for expert in weights.experts {
        try expert.validate(
          hiddenSize: hidden, feedForwardSize: inner, isGated: configuration.activation.isGated,
          owner: fixture)
      }
      if let branch = configuration.denseBranch {
        try weights.dense?.validate(
          hiddenSize: hidden, feedForwardSize: branch.feedForwardSize, isGated: true, owner: fixture)
        #expect(weights.dense != nil && (weights.denseGate?.weight.rows ?? 0) == branch.gateRows)
      }
      let prefix = name.contains(".") ? name : "layers.\(name)"
      #expect(try expected.tensor("\(prefix).input").shape.last == hidden)
      #expect(try expected.tensor("\(prefix).expert_ids").shape.last == configuration.expertsPerToken)
    }
  }

  @Test func everySupportedFamilyHasAFixture() throws {
    let types = try fixtureNames.map { try Checkpoint(folder: fixtures.appending(path: $0).path).modelType }
    #expect(Set(types) == Set(Checkpoint.supportedModelTypes))
  }
}
