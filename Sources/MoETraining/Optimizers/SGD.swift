internal import CKernels
internal import MoE

/// Stochastic gradient descent with momentum, Nesterov's as an option (Sutskever et al. 2013).
final class SGD: Optimizer {
  private let parameters: [Parameter]
  private let configuration: OptimizerConfiguration
  private let execution: Execution
  private let velocities: [Memory]

  init(
    _ parameters: [Parameter], _ configuration: OptimizerConfiguration, execution: Execution
  ) throws(MoEError) {
    self.parameters = parameters
    self.configuration = configuration
    self.execution = execution
    velocities = configuration.momentum == 0 ? [] : try OptimizerState.zeros(like: parameters)
  }

  func step(_ update: OptimizerUpdate) {
    for (index, parameter) in parameters.enumerated() {
      let rate = update.learningRate[parameter.group]
      let rule = moe_sgd_rule(
        gradient_scale: update.gradientScale[parameter.group], momentum: Float(configuration.momentum),
        step: Float(rate), keep: Float(1 - (parameter.decays ? rate * configuration.weightDecay : 0)),
        nesterov: configuration.nesterov)
      OptimizerKernels.sgd(
        rule, parameter, velocity: velocities.isEmpty ? nil : velocities[index], execution)
    }
  }

  var state: [OptimizerState] { OptimizerState.matrices("m", parameters, velocities) }
}
