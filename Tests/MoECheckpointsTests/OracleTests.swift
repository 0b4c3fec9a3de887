import Foundation
import MoECheckpoints
import MoECore
import MoEReference
import Testing

/// The oracle computes from the parameters that are read here the output that transformers computed in fp32.
@Suite struct OracleTests {
  /// The relative RMS error an output of transformers in fp32 may have, and the error of a weight: sums of a few
  /// dozen products, each rounded to 2^−24.
  private static let outputTolerance = 2e-6
  private static let weightTolerance = 1e-6

  @Test(arguments: fixtureNames)
  func transformersAgrees(_ fixture: String) throws {
    let folder = fixtures.appending(path: fixture)
    let checkpoint = try Checkpoint(folder: folder.path)
    let expected = try SafetensorsFile(path: folder.appending(path: "expected.safetensors").path)
    for name in checkpoint.moeLayers {
      let layer = try checkpoint.layer(name)
      let prefix = name.contains(".") ? name : "layers.\(name)"
      let shape = try expected.tensor("\(prefix).input").shape
      let (hidden, k) = (layer.configuration.hiddenSize, layer.configuration.expertsPerToken)
      let input = try expected.floats(named: "\(prefix).input")
      let tokenCount = input.count / hidden
      let result = try Reference.layer(
        Activations(shape: shape, tokens: Matrix(rows: tokenCount, columns: hidden, elements: input)),
        weights: MoEWeights(reading: layer, for: layer.configuration), configuration: layer.configuration)

      let output = try expected.floats(named: "\(prefix).output").map(Double.init)
      let error = relativeRMS(result.output.flatMap { $0 }, output)
      #expect(error <= Self.outputTolerance, "layer \(name): relative RMS \(error)")

      let ids = try expected.integers(named: "\(prefix).expert_ids")
      let weights = try expected.floats(named: "\(prefix).expert_weights")
      for token in 0..<tokenCount {
        let slots = token * k..<(token + 1) * k
        let theirs = Dictionary(uniqueKeysWithValues: zip(ids[slots].map(Int.init), weights[slots]))
        let ours = Dictionary(
          uniqueKeysWithValues: zip(
            result.routing.expertIDs[token].map { Int($0) }, result.appliedWeights[token]))
        #expect(Set(theirs.keys) == Set(ours.keys), "layer \(name), token \(token)")
        for (expert, weight) in theirs {
          let difference = abs((ours[expert] ?? .nan) - Double(weight))
          #expect(
            difference <= Self.weightTolerance,
            "layer \(name), token \(token), expert \(expert): \(difference)")
        }
      }
    }
  }

  /// √(Σ(a − b)² / Σb²).
  private func relativeRMS(_ a: [Double], _ b: [Double]) -> Double {
    #expect(a.count == b.count)
    let difference = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    return (difference / b.reduce(0) { $0 + $1 * $1 }).squareRoot()
  }
}
