import ExpertParallel
import Foundation
import MoE
import MoECheckpoints

/// A pass that failed, unlike the packing before it.
struct PassError: Error, CustomStringConvertible {
  let description: String
}

extension CheckpointLayer {
  /// The block's output, what happened to the tokens, and how long the pass took.
  func applied(
    to input: Activations, _ precision: Precision, _ execution: Execution
  ) throws -> (output: Activations, record: RoutingRecord, seconds: Double) {
    let layer = try packed(precision, execution)
    let start = Date()
    do {
      let (output, record) = try layer(input, execution: execution)
      return (output, record, Date().timeIntervalSince(start))
    } catch {
      throw PassError(description: "\(error)")
    }
  }

  /// The same over local ranks, which divide tokens, experts and threads; the time is that of the slowest.
  func applied(
    to input: Activations, _ precision: Precision, _ execution: Execution, ranks: Int
  ) throws -> (output: Activations, record: RoutingRecord, seconds: Double) {
    let threads = try Execution(
      instructionSet: execution.instructionSet, threadCount: max(execution.threadCount / ranks, 1))
    let (count, hidden) = (input.tokenCount, input.tokens.columns)
    let parts = try LocalCommunicator.run(ranks: ranks) { communicator in
      let layer = try ExpertParallelLayer(
        configuration, weights: self, over: communicator, precision: precision, execution: threads)
      let tokens = communicator.rank * count / ranks..<(communicator.rank + 1) * count / ranks
      let part = try Activations(
        shape: [tokens.count, hidden], tokens: input.tokens.rows(tokens))
      try communicator.barrier(step: "packing")
      let start = Date()
      do {
        let (output, record) = try layer(
          part, sequenceLength: input.sequenceLength, execution: threads)
        return (output, record, Date().timeIntervalSince(start))
      } catch {
        throw PassError(description: "\(error)")
      }
    }
    let output = try Activations(
      shape: input.shape,
      tokens: Matrix(rows: count, columns: hidden, elements: parts.flatMap { $0.0.tokens.elements }))
    return (
      output, parts.map(\.1).dropFirst().reduce(parts[0].1) { $0.followed(by: $1) }, parts.map(\.2).max()!
    )
  }
}
