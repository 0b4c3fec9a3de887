import Foundation
import MoECore

/// How choices are distributed over experts.
public enum LoadTrace: Sendable, Equatable {
  /// Every expert is chosen equally often.
  case uniform
  /// The i-th most chosen expert is chosen in proportion to i^(−exponent) (Zipf 1949), limited by the rule that a token
  /// chooses an expert at most once. The seed decides which expert is the i-th.
  case zipf(exponent: Double, seed: UInt64)
  /// Measured choices of each expert, `[layer][E]`, counted before any is dropped.
  case measured([[Double]])

  /// Returns the probability that an expert is among the K of a token, `[layer][E]`; a layer's probabilities add up
  /// to K. The layers of the trace are used in turn for all layers of the model.
  ///
  /// - Throws: ``PlanError`` if the trace is empty, has another number of experts, or gives one expert more than a
  ///   K-th of the choices.
  package func chances(expertCount: Int, expertsPerToken: Int) throws(PlanError) -> [[Double]] {
    let chosen = Double(expertsPerToken)
    switch self {
    case .uniform: return [Array(repeating: chosen / Double(expertCount), count: expertCount)]
    case .zipf(let exponent, let seed):
      try require(
        exponent >= 0 && exponent <= 10, "the exponent of the load is \(exponent), expected 0 to 10")
      var generator = SeededGenerator(seed: seed)
      let weights = (1...expertCount).map { pow(Double($0), -exponent) }.shuffled(using: &generator)
      return [Self.filled(weights, to: chosen)]
    case .measured(let layers):
      try require(!layers.isEmpty, "the measured load has no layer")
      return try layers.enumerated().map { index, loads throws(PlanError) in
        let name = "layer \(index) of the measured load"
        try require(
          loads.count == expertCount,
          "\(name) has \(loads.count) experts, expected the model's \(expertCount)")
        if let bad = loads.first(where: { !($0 >= 0 && $0.isFinite) }) {
          throw PlanError("\(name) has \(bad) choices of an expert, expected 0 or more")
        }
        let sum = loads.reduce(0, +)
        try require(sum > 0, "\(name) has no choices")
        try require(sum <= 0x1p53, "\(name) has \(sum) choices, expected at most 2^53")
        let chances = loads.map { $0 / sum * chosen }
        let largest = chances.indices.max { chances[$0] < chances[$1] }!
        try require(
          chances[largest] <= 1 + 1e-9,
          "\(name) gives expert \(largest) \(Int(loads[largest])) of \(Int(sum)) choices, more than one per token; "
            + "expected the load of a model with top-\(expertsPerToken)")
        return chances.map { min($0, 1) }
      }
    }
  }

  /// Returns min(1, c·w) for each weight w, with the c for which the results add up to `sum`.
  private static func filled(_ weights: [Double], to sum: Double) -> [Double] {
    let order = weights.indices.sorted { (weights[$0], $1) > (weights[$1], $0) }
    var chances = weights.map { _ in 1.0 }
    var rest = weights.reduce(0, +)
    for (full, index) in order.enumerated() {
      let left = sum - Double(full)
      let factor = left / rest
      if weights[index] * factor <= 1 {
        for other in order[full...] { chances[other] = weights[other] * factor }
        break
      }
      rest -= weights[index]
    }
    return chances
  }
}
