package import MoE

extension ExpertParallelLayer {
  /// The parameters of this rank, as `MoELayer.parameters(prefix:gradients:)` gives those of a whole layer: the experts
  /// have the names that they have there.
  ///
  /// - Parameters:
  ///   - prefix: goes before every name.
  ///   - gradients: of ``makeGradients()``.
  /// - Throws: as of a whole layer.
  package func parameters(prefix: String, gradients: MoEGradients) throws(MoEError) -> [Parameter] {
    try part.parameters(prefix: prefix, gradients: gradients, experts: localExperts)
  }

  /// A layer over the same ranks that computes with another part: a copy in bfloat16, or one with other capacities.
  ///
  /// - Precondition: it is made of ``part``, on all ranks alike.
  package func with(_ part: MoELayer) -> ExpertParallelLayer {
    var layer = self
    layer.part = part
    return layer
  }
}
