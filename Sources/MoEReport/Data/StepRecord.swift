/// A line of `metrics.jsonl`: what one training step measured.
package struct StepRecord: Decodable {
  /// A Mixture-of-Experts layer in this step.
  package struct Layer: Decodable {
    /// The layer's index in the model.
    var layer: Int
    /// [E], choices of each expert, before any is dropped.
    package var load: [Int]
    /// How many of the choices a capacity dropped.
    var dropped: Int
    /// The entropy of the normalised load, in nats; ln E where it is balanced.
    var entropy: Double

    var choices: Int { load.reduce(0, +) }
    /// The share of the choices that were dropped.
    var dropRate: Double { choices == 0 ? 0 : Double(dropped) / Double(choices) }
  }

  /// The version of the line; nil in lines of version 1 that do not name it.
  var format: Int?
  package var step: Int
  /// Bytes of the step's batch.
  var tokens: Int
  /// Mean cross-entropy, in nats per byte.
  var loss: Double
  var learningRate: Double
  var seconds: Double
  var tokensPerSecond: Double
  /// Seconds of each stage.
  var stages: [String: Double]
  package var layers: [Layer]
  /// Nats per byte of held-out text, at the steps where it was measured.
  package var validationLoss: Double?

  enum CodingKeys: String, CodingKey {
    case format, step, tokens, loss, seconds, stages, layers
    case learningRate = "learning_rate"
    case tokensPerSecond = "tokens_per_second"
    case validationLoss = "validation_loss"
  }

  /// The version that is known here.
  private static let knownFormat = 1
  /// The most that a quantity may be, so that sums over a run stay finite and whole parts fit an `Int`.
  private static let largestQuantity = 1e15

  /// The complaint about values that cannot be, beside the line before, if any.
  func complaint(after previous: StepRecord?) -> String? {
    if let format, format != Self.knownFormat {
      return "“format” is \(format), expected \(Self.knownFormat): another version of the program wrote it"
    }
    for (name, value) in [
      ("loss", loss), ("seconds", seconds), ("tokens_per_second", tokensPerSecond),
      ("learning_rate", learningRate), ("validation_loss", validationLoss ?? 0),
    ] + stages.sorted(by: { $0.key < $1.key }).map({ ("stages.\($0)", $1) }) {
      if !value.isFinite || value < 0 {
        return "“\(name)” is \(value), expected a finite number of 0 or more"
      }
      if value > Self.largestQuantity {
        return "“\(name)” is \(value), expected at most \(Self.largestQuantity)"
      }
    }
    if !(1...1 << 40).contains(step) { return "“step” is \(step), expected 1 to 2^40" }
    if tokens < 0 { return "“tokens” is \(tokens), expected 0 or more" }
    for layer in layers {
      if let complaint = layer.complaint { return "layer \(layer.layer): \(complaint)" }
    }
    guard let previous else { return nil }
    if step <= previous.step { return "“step” is \(step) after step \(previous.step)" }
    if layers.map(\.layer) != previous.layers.map(\.layer) {
      return "the MoE layers are \(layers.map(\.layer)), but \(previous.layers.map(\.layer)) the step before"
    }
    for (layer, old) in zip(layers, previous.layers) where layer.load.count != old.load.count {
      return "layer \(layer.layer) has \(layer.load.count) loads, but \(old.load.count) the step before"
    }
    return nil
  }
}

extension StepRecord.Layer {
  fileprivate var complaint: String? {
    if load.isEmpty { return "“load” is empty, expected a count for each expert" }
    if let negative = load.first(where: { $0 < 0 }) { return "“load” has \(negative), expected 0 or more" }
    // So few that sums over the steps of a run are numbers too.
    var rest = 1 << 40
    for count in load {
      if count > rest { return "“load” adds up to more than 2^40 choices" }
      rest -= count
    }
    if dropped < 0 || dropped > choices { return "“dropped” is \(dropped), of \(choices) choices" }
    if !entropy.isFinite { return "“entropy” is \(entropy), expected a finite number" }
    return nil
  }
}
