package import MoE
package import MoECore

extension ExpertParallelLayer {
  /// Returns the parameters of this rank. Each expert has the name that it has in
  /// `MoELayer.parameters(prefix:gradients:)` of the whole layer.
  ///
  /// - Parameters:
  ///   - prefix: the prefix of every name.
  ///   - gradients: the sums made by ``makeGradients()``.
  /// - Throws: as that method.
  package func parameters(prefix: String, gradients: MoEGradients) throws(MoEError) -> [Parameter] {
    try localLayer.parameters(prefix: prefix, gradients: gradients, experts: localExperts)
  }

  /// Returns a layer with these parameters, in the same memory, and another configuration, for example with other
  /// capacities for evaluation.
  ///
  /// - Precondition: both configurations have the same sizes.
  package func with(_ configuration: MoEConfiguration) throws(MoEError) -> ExpertParallelLayer {
    var layer = self
    layer.configuration = configuration
    layer.localLayer = localLayer.with(
      try configuration.withFeedForwardSize(localLayer.configuration.feedForwardSize))
    return layer
  }

  /// Returns the layer with its networks rounded to bfloat16, as `MoELayer.narrowed(execution:)`.
  package func narrowed(execution: Execution) throws(MoEError) -> ExpertParallelLayer {
    var layer = self
    layer.localLayer = try localLayer.narrowed(execution: execution)
    return layer
  }
}
