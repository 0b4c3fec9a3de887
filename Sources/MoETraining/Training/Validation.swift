internal import MoE
internal import MoERun

/// A model's loss on the held-out sequences, and the experts that their bytes went to.
struct Validation {
  /// The mean cross-entropy in nats per byte.
  let loss: Double
  /// The content of `routing.json`.
  let routing: RoutingMap

  /// Evaluates the sequences in batches. With ranks a collective.
  init(of model: LanguageModel, on heldOut: HeldOutSequences, batchSize: Int, step: Int) throws {
    let length = heldOut.sequenceLength
    let blocks = model.configuration.blocks.enumerated().filter { $0.element.isMoE }
    var routing = RoutingMap(
      step: step, layers: blocks.map(\.offset), experts: blocks.map(\.element.expertCount),
      labels: heldOut.labels, classes: ByteClass.allCases.map(\.rawValue))
    var sum = 0.0
    for first in stride(from: 0, to: heldOut.count, by: batchSize) {
      let sequences = first..<min(first + batchSize, heldOut.count)
      let bytes = sequences.lowerBound * length..<sequences.upperBound * length
      let evaluation = try model.evaluate(
        inputs: Array(heldOut.inputs[bytes]), targets: Array(heldOut.targets[bytes]), sequenceLength: length)
      sum = evaluation.losses.reduce(sum) { $0 + Double($1) }
      for sequence in sequences {
        let label = heldOut.labelOfSequence[sequence]
        let place = (sequence - first) * length..<(sequence - first + 1) * length
        routing.add(
          Array(heldOut.inputs[sequence * length..<(sequence + 1) * length]), label: label,
          losses: Array(evaluation.losses[place]),
          choices: evaluation.routes.map { Array($0.firstChoices[place]) })
      }
    }
    loss = heldOut.count == 0 ? .nan : sum / Double(heldOut.count * length)
    self.routing = routing
  }
}

extension RoutingMap {
  /// Counts the first choices of a sequence, and keeps the sequence where it is the first of its label.
  ///
  /// - Parameters:
  ///   - bytes: `[S]`, the sequence.
  ///   - label: the index of its label.
  ///   - losses: `[S]`, the cross-entropy of the byte after each, in nats.
  ///   - choices: `[layers][S]`, the expert that each byte chose first; negative where the choice was dropped.
  mutating func add(_ bytes: [UInt8], label: Int, losses: [Float], choices: [[Int32]]) {
    let classes = bytes.map { ByteClass.allCases.firstIndex(of: ByteClass($0))! }
    for (layer, experts) in choices.enumerated() {
      for (byte, expert) in experts.enumerated() where expert >= 0 {
        byLabel[layer][Int(expert)][label] += 1
        byClass[layer][Int(expert)][classes[byte]] += 1
      }
    }
    // losses[i] is the loss of byte i + 1, so the first byte has none and is left out.
    if bytes.count > 1, !samples.contains(where: { $0.label == labels[label] }) {
      samples.append(
        Sample(
          label: labels[label], bytes: bytes.dropFirst().map(Int.init),
          experts: choices.map { $0.dropFirst().map(Int.init) }, loss: Array(losses.dropLast())))
    }
  }
}
