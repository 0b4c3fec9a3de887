internal import Foundation
internal import MoE

/// Adafactor (Shazeer and Stern 2018, Algorithms 4 and 5): the second moments of a matrix are the outer product of a
/// vector of its rows and one of its columns. Updates are clipped by their root mean square. β₂ = 1 − t^−0.8.
///
/// A tensor of one row or column is not factored. The rows and columns are those of the logical matrix, so the values
/// do not depend on its layout in memory. Sums are in Double, in the order of rows and columns.
final class Adafactor: Optimizer {
  /// The smallest mean square of a gradient, and the smallest root mean square of a parameter, that the rule uses.
  static let floors = (gradient: 1e-30, parameter: 1e-3)

  private let parameters: [Parameter]
  private let configuration: OptimizerConfiguration
  private let execution: Execution
  private let moments: [FactoredMoments]
  private let means: [Memory]

  init(
    _ parameters: [Parameter], _ configuration: OptimizerConfiguration, execution: Execution
  ) throws(MoEError) {
    self.parameters = parameters
    self.configuration = configuration
    self.execution = execution
    moments = parameters.enumerated().flatMap { index, parameter in
      parameter.tensors.map { FactoredMoments($0, ofParameter: index) }
    }
    means = configuration.momentum == 0 ? [] : try OptimizerState.zeros(like: parameters)
  }

  /// Changes every parameter. One matrix is one task, which depends only on its own gradients.
  func step(_ update: OptimizerUpdate) {
    let beta2 = 1 - pow(Double(update.number), -0.8)
    Parallel.forEach(moments.count, execution) { task in
      let moment = moments[task]
      let parameter = parameters[moment.parameter]
      let rate =
        configuration.relativeStep
        ? min(1e-2, 1 / Double(update.number).squareRoot()) : update.learningRate[parameter.group]
      moment.step(
        parameter, mean: means.isEmpty ? nil : means[moment.parameter],
        .init(
          beta2: beta2, gradientScale: Double(update.gradientScale[parameter.group]), rate: rate,
          keep: 1 - (parameter.decays ? rate * configuration.weightDecay : 0),
          configuration: configuration))
    }
  }

  var state: [OptimizerState] {
    moments.flatMap(\.state) + OptimizerState.matrices("m", parameters, means)
  }
}
