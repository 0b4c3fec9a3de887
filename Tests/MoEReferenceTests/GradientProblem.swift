import MoECore
import MoEReference
import TestSupport

/// A layer whose choices and drops are constants, with the loss L = Σ dL/dy·y + Σ c·p + Σ z·ln Σ exp(logit). L is a
/// differentiable function of the activations and parameters, except at the kinks of activation functions and floors.
struct GradientProblem {
  let configuration: MoEConfiguration
  var weights: MoEWeights
  var x: Activations
  let routing: Reference.Routing
  let permutation: Reference.Permutation
  /// dL/dy `[T, D]`.
  let outputGradient: [[Double]]
  /// The coefficients c `[T, E]` and z `[T]`.
  let loss: Reference.RouterLoss

  /// Makes the problem of a case, with every number rounded to a multiple of 2⁻¹², so that the steps that
  /// ``DifferenceJudge`` adds to it are added exactly.
  init(_ example: LayerCase) throws {
    let problem = try example.problem()
    configuration = problem.configuration
    weights = problem.weights.onGrid
    x = try Activations(shape: problem.input.shape, tokens: problem.input.tokens.onGrid)
    let forward = try Reference.layer(
      x, weights: weights, configuration: configuration, mask: problem.mask)
    (routing, permutation) = (forward.routing, forward.permutation)
    var generator = SeededGenerator(seed: example.seed ^ 0x6AAD)
    func table(_ rows: Int, _ columns: Int) -> [[Double]] {
      (0..<rows).map { _ in generator.normals(columns, deviation: 1).map(Double.init) }
    }
    outputGradient = table(x.tokenCount, configuration.hiddenSize)
    loss = Reference.RouterLoss(
      value: 0, probabilityGradient: table(x.tokenCount, configuration.expertCount),
      logSumExpGradient: table(1, x.tokenCount)[0])
  }

  /// Returns L and the sum of the absolute values of its terms.
  func objective() throws -> (value: Double, magnitude: Double) {
    let routing = Reference.routing(
      choosing: routing.expertIDs, logits: Reference.logits(x.tokens, weights.routerWeights),
      policy: configuration.routing)
    let output = try Reference.layer(
      x, weights: weights, configuration: configuration, routing: routing, permutation: permutation)
    var (value, magnitude) = (0.0, 0.0)
    func add(_ a: [Double], _ b: [Double]) {
      for (a, b) in zip(a, b) {
        value += a * b
        magnitude += abs(a * b)
      }
    }
    for token in output.indices {
      add(outputGradient[token], output[token])
      add(loss.probabilityGradient[token], routing.scores[token])
    }
    add(loss.logSumExpGradient, routing.logSumExp)
    return (value, magnitude)
  }

  /// Returns the gradients that are tested.
  func gradients() throws -> Reference.LayerGradients {
    try Reference.gradients(
      x, weights: weights, configuration: configuration, routing: routing, permutation: permutation,
      outputGradient: outputGradient, loss: loss)
  }

  /// Compares `samples` elements of each kind of tensor, or all elements if the kind has fewer.
  func compare(samples: Int, seed: UInt64, by judge: inout DifferenceJudge) throws {
    var generator = SeededGenerator(seed: seed)
    let magnitude = try objective().magnitude
    for kind in coordinates(of: try gradients()) {
      for coordinate in kind.shuffled(using: &generator).prefix(samples) {
        try judge.compare(coordinate.gradient, magnitude: magnitude, coordinate.name) { step in
          var moved = self
          coordinate.move(&moved, Float(step))
          return try moved.objective().value
        }
      }
    }
  }
}

/// One number of a problem, with its gradient from the backward pass.
struct Coordinate {
  let name: String
  let gradient: Double
  /// Adds a step to the number.
  let move: (inout GradientProblem, Float) -> Void
}

extension GradientProblem {
  /// Returns every number that has a gradient, in one list per kind of tensor.
  private func coordinates(of gradients: Reference.LayerGradients) -> [[Coordinate]] {
    var kinds = [
      matrix("x", \.x.tokens, gradients.x),
      matrix("router weight", \.weights.routerWeights.weight, gradients.routerWeight),
      bias("router bias", \.weights.routerWeights.bias, gradients.routerBias),
    ]
    let experts = gradients.experts.enumerated().map { index, gradient in
      network("expert \(index)", \.weights.experts[index], gradient)
    }
    if let first = experts.first {
      kinds += first.indices.map { kind in experts.flatMap { $0[kind] } }
    }
    if let dense = gradients.dense { kinds += network("dense", \.weights.dense!, dense) }
    if let weight = gradients.denseGateWeight, let ofBias = gradients.denseGateBias {
      kinds.append(matrix("dense gate", \.weights.denseGate!.weight, weight))
      kinds.append(bias("dense gate bias", \.weights.denseGate!.bias, ofBias))
    }
    return kinds
  }

  private func network(
    _ owner: String, _ path: WritableKeyPath<Self, FeedForwardWeights>,
    _ gradient: Reference.FeedForwardGradients
  ) -> [[Coordinate]] {
    var kinds = [
      matrix("\(owner) up", path.appending(path: \.up), gradient.up),
      matrix("\(owner) down", path.appending(path: \.down), gradient.down),
      bias("\(owner) up bias", path.appending(path: \.upBias), gradient.upBias),
      bias("\(owner) down bias", path.appending(path: \.downBias), gradient.downBias),
    ]
    if let gate = gradient.gate, let gateBias = gradient.gateBias {
      kinds.append(matrix("\(owner) gate", path.appending(path: \.gate!), gate))
      kinds.append(bias("\(owner) gate bias", path.appending(path: \.gateBias), gateBias))
    }
    return kinds
  }

  private func matrix(
    _ name: String, _ path: WritableKeyPath<Self, Matrix>, _ gradient: [[Double]]
  ) -> [Coordinate] {
    gradient.enumerated().flatMap { row, elements in
      elements.enumerated().map { column, element in
        Coordinate(name: "\(name)[\(row), \(column)]", gradient: element) { problem, step in
          problem[keyPath: path][row, column] += step
        }
      }
    }
  }

  /// A bias that the layer does not have counts as zeros.
  private func bias(
    _ name: String, _ path: WritableKeyPath<Self, [Float]?>, _ gradient: [Double]
  ) -> [Coordinate] {
    gradient.enumerated().map { index, element in
      Coordinate(name: "\(name)[\(index)]", gradient: element) { problem, step in
        var bias = problem[keyPath: path] ?? Array(repeating: 0, count: gradient.count)
        bias[index] += step
        problem[keyPath: path] = bias
      }
    }
  }
}

extension Float {
  /// The nearest multiple of 2⁻¹².
  fileprivate var onGrid: Float { (self * 0x1p12).rounded() * 0x1p-12 }
}

extension Matrix {
  fileprivate var onGrid: Matrix {
    var matrix = self
    for row in 0..<rows { for column in 0..<columns { matrix[row, column] = self[row, column].onGrid } }
    return matrix
  }
}

extension FeedForwardWeights {
  fileprivate var onGrid: FeedForwardWeights {
    FeedForwardWeights(
      gate: gate?.onGrid, up: up.onGrid, down: down.onGrid, gateBias: gateBias?.map(\.onGrid),
      upBias: upBias?.map(\.onGrid), downBias: downBias?.map(\.onGrid))
  }
}

extension MoEWeights {
  fileprivate var onGrid: MoEWeights {
    MoEWeights(
      router: RouterWeights(
        weight: routerWeights.weight.onGrid, bias: routerWeights.bias?.map(\.onGrid),
        selectionBias: routerWeights.selectionBias?.map(\.onGrid)),
      experts: experts.map(\.onGrid), dense: dense?.onGrid,
      denseGate: denseGate.map {
        BranchGateWeights(weight: $0.weight.onGrid, bias: $0.bias?.map(\.onGrid))
      })
  }
}
