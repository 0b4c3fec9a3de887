internal import MoERun

extension StepRecord.Layer {
  /// The number of choices, before any is dropped.
  var choices: Int { load.reduce(0, +) }
  /// The share of the choices that were dropped; 0 where there is no choice.
  var dropRate: Double { choices == 0 ? 0 : Double(dropped) / Double(choices) }
}

extension StepRecord {
  /// The most that a quantity may be, so that sums over a run stay finite and whole parts fit an `Int`.
  private static let largestQuantity = 1e15

  /// Returns the complaint about a value that is out of range or contradicts the record before; nil where there is none.
  func complaint(after previous: StepRecord?) -> String? {
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
    // The limit keeps sums over the steps of a run within an Int.
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
