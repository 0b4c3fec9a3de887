package import MoE
package import MoECore

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

  /// The same parameters, in the same memory, under another configuration: other capacities for evaluation.
  ///
  /// - Precondition: both configurations have the same sizes.
  package func with(_ configuration: MoEConfiguration) throws(MoEError) -> ExpertParallelLayer {
    var layer = self
    layer.configuration = configuration
    layer.part = part.with(try configuration.withFeedForwardSize(part.configuration.feedForwardSize))
    return layer
  }

  /// The layer with its networks rounded to bfloat16, as `MoELayer.narrowed(execution:)`.
  package func narrowed(execution: Execution) throws(MoEError) -> ExpertParallelLayer {
    var layer = self
    layer.part = try part.narrowed(execution: execution)
    return layer
  }
}
