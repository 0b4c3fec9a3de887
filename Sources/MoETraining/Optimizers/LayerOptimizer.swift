public import MoE

/// An optimizer of one or several ``TrainedLayer``s, with the number of its steps.
public final class LayerOptimizer {
  /// The number of steps taken. To continue from a saved optimizer, set this and ``state``.
  public var stepCount = 0
  private let layers: [TrainedLayer]
  private let parameters: [Parameter]
  private let rule: any Optimizer
  private let execution: Execution

  init(_ layers: [TrainedLayer], _ configuration: OptimizerConfiguration) throws(MoEError) {
    guard let first = layers.first else {
      throw .invalidConfiguration("the optimizer has no layers, expected at least one")
    }
    self.layers = layers
    execution = first.execution
    parameters = layers.flatMap(\.parameters)
    rule = try configuration.optimizer(of: parameters, execution: execution)
  }

  /// Changes the parameters by the gradients that backward passes have added up since the last step, and sets the
  /// gradients to zero. Over ranks a collective.
  ///
  /// - Parameters:
  ///   - learningRate: the learning rate of all parameters, except experts if `expertLearningRate` is given.
  ///   - expertLearningRate: the learning rate of the routed experts; nil for `learningRate`.
  ///   - clip: the largest norm of the gradients, biases included; nil for no limit.
  /// - Returns: the norms of the gradients before they were clipped.
  /// - Throws: ``TrainingError/notFinite(what:)`` naming the parameter with a NaN or infinite gradient; no parameter
  ///   has changed then. `MoEError.invalidConfiguration` for a learning rate that is negative, NaN or infinite, and
  ///   `CommunicationError`.
  @discardableResult
  public func step(
    learningRate: Double, expertLearningRate: Double? = nil, clip: GradientClip = GradientClip(norm: nil)
  ) throws -> GradientNorm {
    for rate in [learningRate, expertLearningRate ?? learningRate] where !(rate >= 0 && rate.isFinite) {
      throw MoEError.invalidConfiguration("the learning rate is \(rate), expected a number from 0 on")
    }
    let norm = try GradientNorm(of: parameters, over: layers[0].ranks, execution: execution)
    stepCount += 1
    rule.step(
      OptimizerUpdate(
        number: stepCount,
        learningRate: GroupValues(expert: expertLearningRate ?? learningRate, other: learningRate),
        gradientScale: clip.scales(for: norm)))
    for layer in layers {
      layer.parametersChanged()
      layer.resetGradients()
    }
    return norm
  }

  /// The matrices that the optimizer keeps beside the parameters.
  public var state: [OptimizerState] { rule.state }
}

extension OptimizerConfiguration {
  /// Makes an optimizer of the parameters of one or several layers, at step 0.
  ///
  /// - Parameter layers: the layers that one step changes and whose gradients are clipped together.
  /// - Throws: `MoEError` for a constant that cannot be used, for no layers, or where memory is missing.
  public func optimizer(of layers: TrainedLayer...) throws(MoEError) -> LayerOptimizer {
    try LayerOptimizer(layers, self)
  }
}
