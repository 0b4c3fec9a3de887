internal import MoE

/// A model's losses on the held-out sequences, and which expert each byte of them went to.
struct Validation {
  /// Mean cross-entropy in nats a byte.
  let loss: Double
  /// The content of `routing.json`.
  let routing: RoutingMap

  /// Evaluates the sequences in batches; with ranks a collective.
  init(of model: LanguageModel, on heldOut: HeldOutSequences, batchSize: Int, step: Int) throws {
    let length = heldOut.sequenceLength
    let blocks = model.configuration.blocks.enumerated().filter { $0.element.isMoE }
    var routing = RoutingMap(
      step: step, layers: blocks.map(\.offset), experts: blocks.map(\.element.expertCount),
      labels: heldOut.labels)
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

/// Which bytes of held-out text go to which expert: `routing.json`.
struct RoutingMap: Codable, Sendable {
  /// A sequence, byte by byte.
  struct Sample: Codable, Sendable {
    var label: String
    var bytes: [UInt8]
    /// Of each layer: the first choice of each byte, −1 where it was dropped.
    var experts: [[Int32]]
    /// Nats of each byte, as it was foretold from those before it.
    var loss: [Float]
  }

  /// The version of the file.
  var format = 1
  var step: Int
  var layers: [Int]
  var experts: [Int]
  var labels: [String]
  var classes = ByteClass.allCases.map(\.rawValue)
  /// Of each layer, of each expert: bytes of each label.
  var byLabel: [[[Int]]]
  /// Of each layer, of each expert: bytes of each class.
  var byClass: [[[Int]]]
  /// The first sequence of each label.
  var samples: [Sample] = []

  enum CodingKeys: String, CodingKey {
    case format, step, layers, experts, labels, classes, samples
    case byLabel = "by_label"
    case byClass = "by_class"
  }

  init(step: Int, layers: [Int], experts: [Int], labels: [String]) {
    self.step = step
    self.layers = layers
    self.experts = experts
    self.labels = labels
    byLabel = experts.map { Array(repeating: Array(repeating: 0, count: labels.count), count: $0) }
    byClass = experts.map {
      Array(repeating: Array(repeating: 0, count: ByteClass.allCases.count), count: $0)
    }
  }

  /// Counts a sequence.
  mutating func add(_ bytes: [UInt8], label: Int, losses: [Float], choices: [[Int32]]) {
    let classes = bytes.map { ByteClass.allCases.firstIndex(of: ByteClass($0))! }
    for (layer, experts) in choices.enumerated() {
      for (byte, expert) in experts.enumerated() where expert >= 0 {
        byLabel[layer][Int(expert)][label] += 1
        byClass[layer][Int(expert)][classes[byte]] += 1
      }
    }
    // A byte's loss is that of the position before it, so the first has none and is left out.
    if bytes.count > 1, !samples.contains(where: { $0.label == labels[label] }) {
      samples.append(
        Sample(
          label: labels[label], bytes: Array(bytes.dropFirst()),
          experts: choices.map { Array($0.dropFirst()) },
          loss: Array(losses.dropLast())))
    }
  }
}
