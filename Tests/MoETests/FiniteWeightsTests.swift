import MoE
import MoECore
import Testing

/// NaN and infinity in parameters cause an error that names the parameter. They reach no output.
@Suite struct FiniteWeightsTests {
  private static let hidden = 20
  private static let inner = 40

  private func configuration(_ branch: MoEConfiguration.DenseBranch? = nil) throws -> MoEConfiguration {
    try MoEConfiguration(
      hiddenSize: Self.hidden, feedForwardSize: Self.inner, expertCount: 3, expertsPerToken: 2,
      denseBranch: branch)
  }

  private func complaint(
    _ branch: MoEConfiguration.DenseBranch? = nil, _ precision: Precision = .float32,
    _ change: (inout MoEWeights) -> Void
  ) throws -> String {
    let configuration = try configuration(branch)
    var weights = MoEWeights.random(for: configuration, seed: 1)
    change(&weights)
    do {
      _ = try MoELayer(configuration, weights: weights, precision: precision)
      return "accepted"
    } catch {
      return "\(error)"
    }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity, .signalingNaN], Precision.allCases)
  func isRefusedByName(_ value: Float, _ precision: Precision) throws {
    for expert in 0..<3 {
      // Corners, and rows and columns on either side of a panel's edge.
      for (row, column) in [(0, 0), (15, 19), (16, 3), (39, 19)] {
        #expect(
          try complaint(nil, precision) { $0.experts[expert].gate![row, column] = value }
            == "the gate projection of expert \(expert) has \(value) at [\(row), \(column)], expected a finite number"
        )
        #expect(
          try complaint(nil, precision) { $0.experts[expert].up[row, column] = value }.hasPrefix(
            "the up projection of expert \(expert) has"))
        #expect(
          try complaint(nil, precision) { $0.experts[expert].down[column, row] = value }.hasPrefix(
            "the down projection of expert \(expert) has \(value) at [\(column), \(row)]"))
      }
    }
    let branch = MoEConfiguration.DenseBranch.residual(feedForwardSize: Self.inner)
    #expect(
      try complaint(branch, precision) { $0.dense!.up[1, 2] = value }.hasPrefix(
        "the up projection of the dense branch has"))
    #expect(
      try complaint(branch, precision) { $0.denseGate!.weight[1, 2] = value }.contains(
        "has \(value) at [1, 2]"))
    #expect(
      try complaint(nil, precision) { $0.routerWeights.weight[2, 19] = value }
        == "the router weight has \(value) at [2, 19], expected a finite number")
    #expect(
      try complaint(nil, precision) {
        for index in 0..<3 { $0.experts[index].downBias = Array(repeating: 0, count: Self.hidden) }
        $0.experts[1].downBias![7] = value
      } == "the down bias of expert 1 has \(value) at 7, expected a finite number")
  }

  @Test func largeNumbersAreAcceptedWhereTheyAreFinite() throws {
    #expect(try complaint { $0.experts[0].up[0, 0] = .greatestFiniteMagnitude } == "accepted")
    #expect(
      try complaint(nil, .bfloat16) { $0.experts[0].up[0, 0] = Float(bitPattern: 0x7F7F_7FFF) } == "accepted")
    #expect(
      try complaint(nil, .bfloat16) { $0.experts[0].up[0, 0] = -Float(bitPattern: 0x7F7F_8000) }.hasSuffix(
        "at [0, 0], which is infinite in bf16; f32 holds it"))
  }
}
