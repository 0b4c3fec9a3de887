internal import CKernels
internal import Foundation
internal import MoE

/// Adam with decoupled weight decay and bias correction (Loshchilov and Hutter 2019, Algorithm 2).
final class AdamW: Optimizer {
  private let parameters: [Parameter]
  private let configuration: OptimizerConfiguration
  private let execution: Execution
  private let means: [Memory]
  private let variances: [Memory]

  init(
    _ parameters: [Parameter], _ configuration: OptimizerConfiguration, execution: Execution
  ) throws(MoEError) {
    self.parameters = parameters
    self.configuration = configuration
    self.execution = execution
    means = try OptimizerState.zeros(like: parameters)
    variances = try OptimizerState.zeros(like: parameters)
  }

  func step(_ update: OptimizerUpdate) {
    let (beta1, beta2) = (configuration.beta1, configuration.beta2)
    for (index, parameter) in parameters.enumerated() {
      let rate = update.learningRate[parameter.group]
      let rule = moe_adamw_rule(
        gradient_scale: update.gradientScale[parameter.group], beta1: Float(beta1),
        beta1_rest: Float(1 - beta1), beta2: Float(beta2), beta2_rest: Float(1 - beta2),
        mean_step: Float(rate / (1 - pow(beta1, Double(update.number)))),
        variance_factor: Float(1 / (1 - pow(beta2, Double(update.number)))),
        epsilon: Float(configuration.epsilon),
        keep: Float(1 - (parameter.decays ? rate * configuration.weightDecay : 0)))
      OptimizerKernels.adamW(
        rule, parameter, mean: means[index], variance: variances[index], execution)
    }
  }

  var state: [OptimizerState] {
    OptimizerState.matrices("m", parameters, means) + OptimizerState.matrices("v", parameters, variances)
  }
}
