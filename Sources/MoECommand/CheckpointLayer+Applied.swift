import ExpertParallel
import Foundation
import MoE
import MoECheckpoints

/// The output of a layer for all tokens, and the time of the pass.
struct AppliedLayer: Sendable {
  /// `[T, D]`.
  var output: Matrix
  /// `[T, K]`.
  var expertIDs: [Int32]
  /// `[T, K]`.
  var expertWeights: [Float]
  var droppedCount: Int
  var seconds: Double
}

extension CheckpointLayer {
  /// The block applied by the layer that knows of no ranks.
  ///
  /// - Parameter name: what errors call the layer.
  func applied(
    to file: ActivationFile, name: String, _ precision: Precision, _ execution: Execution
  ) throws -> AppliedLayer {
    let input = try file.activations()
    let layer = try naming(name) { try packed(precision, execution) }
    let start = Date()
    do {
      let (output, record) = try layer(input, execution: execution)
      return AppliedLayer(
        output: output.tokens, expertIDs: record.expertIDs, expertWeights: record.expertWeights,
        droppedCount: record.droppedCount, seconds: Date().timeIntervalSince(start))
    } catch {
      throw file.error("cannot pass \(name): \(error)")
    }
  }

  /// Runs `body`. An error about the layer's parameters then names the layer and its checkpoint.
  private func naming<Layer>(_ name: String, _ body: () throws -> Layer) throws -> Layer {
    do { return try body() } catch let error as MoEError { throw CheckpointError(name, "\(error)") }
  }

  /// Applies the block over ranks, each of which reads its part of the tokens and of the experts. A collective; the time is
  /// that of the slowest.
  ///
  /// - Returns: on rank 0, nil on the others.
  func applied(
    to file: ActivationFile, name: String, _ precision: Precision, _ execution: Execution,
    over communicator: any Communicator
  ) throws -> AppliedLayer? {
    let (rank, size) = (communicator.rank, communicator.size)
    let cuts = (0...size).map { $0 * file.tokenCount / size }
    let tokens = try file.tokens(cuts[rank]..<cuts[rank + 1])
    try requireFinite(tokens, of: file, cuts: cuts, communicator)
    let layer = try naming(name) {
      try ExpertParallelLayer(
        configuration, weights: self, over: communicator, precision: precision, execution: execution)
    }
    let input = try Activations(shape: [tokens.rows, tokens.columns], tokens: tokens)
    let sequenceLength = file.shape.count >= 2 ? file.shape[file.shape.count - 2] : file.tokenCount
    try communicator.barrier(during: "packing")
    let start = Date()
    let pass: (output: Activations, record: RoutingRecord)
    do {
      pass = try layer(input, sequenceLength: sequenceLength, execution: execution)
    } catch let error as MoEError {
      throw file.error("cannot pass \(name): \(error)")
    }
    let seconds = Date().timeIntervalSince(start)

    func gather<Element: BitwiseCopyable>(
      _ values: [Element], width: Int, _ what: String
    ) throws -> [Element]? {
      try communicator.gather(
        values, counts: (0..<size).map { (cuts[$0 + 1] - cuts[$0]) * width }, root: 0, during: what)
    }
    let choices = configuration.expertsPerToken
    let output = try gather(pass.output.tokens.elements, width: file.hiddenSize, "the output")
    let expertIDs = try gather(pass.record.expertIDs, width: choices, "the experts' ids")
    let expertWeights = try gather(pass.record.expertWeights, width: choices, "the experts' weights")
    let droppedCount = try communicator.allReduce(pass.record.droppedCount, .sum, during: "dropped choices")
    let slowest = try communicator.allReduce(seconds, .maximum, during: "the time of the pass")
    guard let output, let expertIDs, let expertWeights else { return nil }
    return AppliedLayer(
      output: try Matrix(rows: file.tokenCount, columns: file.hiddenSize, elements: output),
      expertIDs: expertIDs, expertWeights: expertWeights, droppedCount: droppedCount, seconds: slowest)
  }

  /// Checks the tokens of all ranks; the first that is not finite is named on each.
  private func requireFinite(
    _ tokens: Matrix, of file: ActivationFile, cuts: [Int], _ communicator: any Communicator
  ) throws {
    let fault = file.fault(of: tokens)
    let faults = try communicator.allGatherLists(fault.map { [$0] } ?? [], during: "checking the input")
    for (rank, faults) in faults.enumerated() where !faults.isEmpty {
      throw file.error(faults[0].description(firstToken: cuts[rank]))
    }
  }
}
