/// The content of `routing.json`: which bytes of held-out text went to which expert.
public struct RoutingMap: Codable, Sendable, Equatable {
  /// One sequence of held-out text of S bytes, without its first byte, which the model does not predict.
  public struct Sample: Codable, Sendable, Equatable {
    /// The label of the text.
    public var label: String
    /// `[S − 1]`: the bytes, each 0 to 255.
    public var bytes: [Int]
    /// `[layers][S − 1]`: the expert that each byte chose first; −1 where the choice was dropped or masked.
    public var experts: [[Int]]
    /// `[S − 1]`: the cross-entropy of each byte given the bytes before it, in nats.
    public var loss: [Float]

    /// Collects the bytes of a sequence, and their experts and losses.
    package init(label: String, bytes: [Int], experts: [[Int]], loss: [Float]) {
      (self.label, self.bytes, self.experts, self.loss) = (label, bytes, experts, loss)
    }
  }

  /// The version of the file; nil in files that were written before files named it.
  public var format: RunFormat? = RunFormat()
  /// The step of the validation.
  public var step: Int
  /// The indices of the Mixture-of-Experts layers in the model.
  public var layers: [Int]
  /// E, the number of experts, of each layer.
  public var experts: [Int]
  /// The labels of the texts.
  public var labels: [String]
  /// The classes of bytes.
  public var classes: [String]
  /// `[layers][E][labels]`: the number of bytes of each label that chose each expert first.
  public var byLabel: [[[Int]]]
  /// `[layers][E][classes]`: the number of bytes of each class that chose each expert first.
  public var byClass: [[[Int]]]
  /// The first sequence of each label.
  public var samples: [Sample] = []

  enum CodingKeys: String, CodingKey {
    case format, step, layers, experts, labels, classes, samples
    case byLabel = "by_label"
    case byClass = "by_class"
  }

  /// A map with counts of 0 and no sample.
  package init(step: Int, layers: [Int], experts: [Int], labels: [String], classes: [String]) {
    self.step = step
    self.layers = layers
    self.experts = experts
    self.labels = labels
    self.classes = classes
    func zeros(_ columns: Int) -> [[[Int]]] {
      experts.map { Array(repeating: Array(repeating: 0, count: columns), count: $0) }
    }
    byLabel = zeros(labels.count)
    byClass = zeros(classes.count)
  }
}
