/// The papers' arrangements of dense and Mixture-of-Experts layers, at sizes that the caller chooses.
///
/// Rules, losses, placement and capacities are those of the papers. The width of an expert is chosen so that a token
/// passes as many weights as in the dense model: F divided by the number of experts per token, times ⅔ where the
/// activation has a gate, rounded to a multiple of 32.
public enum ModelPreset: String, Sendable, CaseIterable {
  /// No experts.
  case dense
  /// Switch Transformer (Fedus et al. 2021): every other layer, top-1, capacity 1.25, 2.0 in evaluation,
  /// α = 0.01, the router's input jittered by 10⁻².
  case switchTransformer = "switch"
  /// GLaM (Du et al. 2021): every other layer, top-2 of GShard, capacity 2, α = 0.01, GELU.
  case glam
  /// PR-MoE (Rajbhandari et al. 2022 §4.1): every other layer, top-1 beside a dense branch. The last two of these
  /// layers have twice the experts (only the last one, if there are fewer than four). The capacity is 1 as in
  /// DeepSpeed, but drops are by position and not at random. α = 0.01.
  case deepSpeedPR = "deepspeed-pr"
  /// Mixtral (Jiang et al. 2024): every layer, top-2, SwiGLU, nothing dropped, α = 0.02.
  case mixtral
  /// DeepSeek-V3 (2024 §2.1.2): all layers but the first, fine-grained experts and a shared one. The selection bias
  /// balances the load (γ = 0.001), with a sequence loss of α = 10⁻⁴.
  case deepSeek = "deepseek"

  /// Returns the blocks of a model.
  ///
  /// - Parameters:
  ///   - layerCount: L, the number of layers.
  ///   - feedForwardSize: F of the dense model.
  ///   - expertCount: E, the number of experts.
  public func blocks(layerCount: Int, feedForwardSize: Int, expertCount: Int) -> [FeedForwardBlock] {
    func width(_ share: Double) -> Int {
      max(32, Int((Double(feedForwardSize) * share / 32).rounded()) * 32)
    }
    let isGated = self == .mixtral || self == .deepSeek
    let dense = FeedForwardBlock(
      routing: .dense, feedForwardSize: isGated ? width(2.0 / 3) : feedForwardSize,
      activation: isGated ? .swiglu : self == .glam ? .gelu : .relu)
    return (0..<layerCount).map { layer in
      switch self {
      case .dense: return dense
      case .switchTransformer:
        if layer % 2 == 0 { return dense }
        var block = FeedForwardBlock(
          routing: .switchTransformer, expertCount: expertCount, feedForwardSize: feedForwardSize,
          activation: .relu)
        block.capacityFactor = 1.25
        block.evaluationCapacityFactor = 2
        block.balanceCoefficient = 0.01
        block.inputJitter = 0.01
        return block
      case .glam:
        if layer % 2 == 0 { return dense }
        var block = FeedForwardBlock(
          routing: .gshardTop2, expertCount: expertCount, expertsPerToken: 2, feedForwardSize: width(1.0 / 2),
          activation: .gelu)
        block.capacityFactor = 2
        block.evaluationCapacityFactor = 2
        block.balanceCoefficient = 0.01
        return block
      case .deepSpeedPR:
        if layer % 2 == 0 { return dense }
        // Layers 1, 3, … have experts. The last two of them have twice as many, or the later half if there are fewer
        // than four.
        let (index, count) = (layer / 2, layerCount / 2)
        var block = FeedForwardBlock(
          routing: .deepSpeedTop1,
          expertCount: index >= count - min(2, count / 2) ? 2 * expertCount : expertCount,
          feedForwardSize: width(1.0 / 2), activation: .relu)
        block.denseBranch = width(1.0 / 2)
        block.capacityFactor = 1
        block.evaluationCapacityFactor = 1
        block.balanceCoefficient = 0.01
        return block
      case .mixtral:
        var block = FeedForwardBlock(
          routing: .mixtral, expertCount: expertCount, expertsPerToken: 2, feedForwardSize: width(1.0 / 3),
          activation: .swiglu)
        block.balanceCoefficient = 0.02
        return block
      case .deepSeek:
        if layer == 0 { return dense }
        var block = FeedForwardBlock(
          routing: .deepSeekV3, expertCount: expertCount, expertsPerToken: 3, feedForwardSize: width(1.0 / 6),
          activation: .swiglu)
        block.denseBranch = width(1.0 / 6)
        block.balanceCoefficient = 1e-4
        block.biasRate = 0.001
        return block
      }
    }
  }
}
