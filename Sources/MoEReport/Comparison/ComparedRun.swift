internal import MoERun

/// The figures of a finished run that are compared.
package struct ComparedRun {
  /// The figures of a Mixture-of-Experts layer at the end of training.
  package struct Layer {
    /// The layer's index in the model, and its number of experts.
    package var layer: Int
    package var experts: Int
    /// The coefficient of variation of a step's load over experts before drops, the mean of the last tenth of the
    /// steps.
    package var variation: Double
    /// The coefficient of variation of the sum of those steps' loads, in which the randomness of single batches
    /// averages out.
    package var variationOfSum: Double
    /// The share of choices that were dropped in those steps.
    package var dropRate: Double
    /// The information that a held-out byte's expert has about the byte's label, about its label if one label is left
    /// out, and about its kind of character.
    package var ofLabel: Specialization?
    package var ofOtherLabels: Specialization?
    package var ofClass: Specialization?
  }

  package var name: String
  package var seed: UInt64
  package var parameters: (total: Int, active: Int)
  package var flopsPerToken: Int
  package var trainBytes: Int
  /// The bytes that were read, from the last line of metrics.jsonl.
  package var tokens: Int
  /// The names of labels and of kinds of characters; empty if the run has no routing.json.
  package var labels: [String] = []
  package var classes: [String] = []
  /// The mean of the last tenth of the steps, in nats per byte.
  package var trainingLoss: Double
  /// The validation loss over steps, in nats per byte.
  package var validation: Series
  package var layers: [Layer]

  package var finalLoss: Double { validation.last! }
  package var steps: Int { nearest(validation.points.last!.step) }

  /// Returns nil if the run has no validation at its last planned step.
  ///
  /// - Parameter label: the label that ``Layer/ofOtherLabels`` leaves out.
  package init?(_ run: RecordedRun, leavingOut label: String?) {
    let planned = run.settings.first { $0.path == "training.steps" }.flatMap { Int($0.value) }
    guard let last = run.steps.last, planned.map({ $0 == last.step }) ?? true, last.validationLoss != nil
    else { return nil }
    name = run.name
    seed = run.description.seed
    parameters = (run.description.parameters.total, run.description.parameters.activePerToken)
    flopsPerToken = run.description.flopsPerToken
    trainBytes = run.description.data.trainBytes
    tokens = last.tokens
    validation = Series(run.steps, \.validationLoss)
    let facts = RunFacts(run)
    trainingLoss = facts.finalLoss
    layers = facts.layers.enumerated().map { index, layer in
      Layer(
        layer: layer.layer, experts: layer.experts,
        variation: facts.mean { ExpertLoad.variation($0.layers[index].load) },
        variationOfSum: ExpertLoad.variation(
          facts.tail.dropFirst().reduce(facts.tail.first!.layers[index].load) { sum, record in
            zip(sum, record.layers[index].load).map(+)
          }),
        dropRate: facts.dropRate(layer: index))
    }
    guard let routing = run.routing, routing.layers == layers.map(\.layer) else { return }
    (labels, classes) = (routing.labels, routing.classes)
    for index in layers.indices {
      layers[index].ofLabel = Specialization(counts: routing.byLabel[index])
      layers[index].ofClass = Specialization(counts: routing.byClass[index])
      guard let column = label.flatMap(routing.labels.firstIndex) else { continue }
      layers[index].ofOtherLabels = Specialization(counts: routing.byLabel[index].without(column: column))
    }
  }
}

extension [[Int]] {
  /// Returns the rows without one of their columns.
  func without(column: Int) -> [[Int]] {
    map { row in row.enumerated().filter { $0.offset != column }.map(\.element) }
  }
}
