package import MoE
package import MoECore

/// A layer that can be trained. It is whole on this rank, or its experts are spread over ranks.
///
/// Both kinds take an `ExpertParallelRecording` and an `ExpertParallelWorkspace`; a whole layer uses only their local
/// part. In a spread layer, every method that takes a workspace is a collective: all ranks call it in the same order.
package protocol TrainableLayer {
  /// The layer with the parameters that this rank holds.
  var localLayer: MoELayer { get }
  /// Whether the experts are spread over ranks, which then add up the gradients of the layer themselves.
  var isSpread: Bool { get }

  /// Returns the layer with the same parameters, in the same memory, under another configuration of the same sizes.
  func with(_ configuration: MoEConfiguration) throws(MoEError) -> Self
  /// Returns a copy whose networks are rounded to bfloat16; router, gate and biases are shared with it.
  func narrowed(execution: Execution) throws(MoEError) -> Self
  /// Returns the parameters that this rank holds, in the memory that the layer computes from.
  ///
  /// - Parameters:
  ///   - prefix: the prefix of every name, followed by a dot; empty for none.
  ///   - gradients: the sums that backward passes add to, made for ``localLayer``.
  func parameters(prefix: String, gradients: MoEGradients) throws(MoEError) -> [Parameter]

  /// Applies the layer to `[…, D]` and records the values that a backward pass needs.
  func forward(
    _ input: Activations, mask: [Bool]?, noise: RouterNoise?, recording: inout ExpertParallelRecording,
    into output: inout Activations, workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws
  /// Applies the layer to `[…, D]` and records nothing.
  func evaluate(
    _ input: Activations, mask: [Bool]?, record: inout RoutingRecord, into output: inout Activations,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws
  /// Returns the sums from which losses of a recorded pass are made. For a spread layer they are sums over all ranks.
  func statistics(
    of recording: inout ExpertParallelRecording, by grouping: TokenGrouping,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws -> RouterStatistics
  /// Computes the backward pass of a recorded pass.
  ///
  /// - Parameter part: the gradients to compute. In a whole layer `.parameters` may follow `.input`. A spread layer
  ///   computes everything with `.input`, and nothing with `.parameters`.
  func backward(
    _ part: BackwardPart, _ outputGradient: Activations, input: Activations,
    recording: inout ExpertParallelRecording, losses: RouterLossGradients,
    into inputGradient: inout Activations, gradients: MoEGradients,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws
}

extension MoELayer: TrainableLayer {
  package var localLayer: MoELayer { self }
  package var isSpread: Bool { false }

  package func parameters(prefix: String, gradients: MoEGradients) throws(MoEError) -> [Parameter] {
    try parameters(prefix: prefix, gradients: gradients, experts: nil)
  }

  package func forward(
    _ input: Activations, mask: [Bool]?, noise: RouterNoise?, recording: inout ExpertParallelRecording,
    into output: inout Activations, workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    try forward(
      input, mask: mask, noise: noise, recording: &recording.local, into: &output,
      workspace: &workspace.local, execution: execution)
  }

  package func evaluate(
    _ input: Activations, mask: [Bool]?, record: inout RoutingRecord, into output: inout Activations,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    try forward(
      input, mask: mask, into: &output, record: &record, workspace: &workspace.local, execution: execution)
  }

  package func statistics(
    of recording: inout ExpertParallelRecording, by grouping: TokenGrouping,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws -> RouterStatistics {
    try statistics(
      of: &recording.local, by: grouping, workspace: &workspace.local, execution: execution)
  }

  package func backward(
    _ part: BackwardPart, _ outputGradient: Activations, input: Activations,
    recording: inout ExpertParallelRecording, losses: RouterLossGradients,
    into inputGradient: inout Activations, gradients: MoEGradients,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    try backward(
      part, outputGradient, input: input, recording: &recording.local, losses: losses, into: &inputGradient,
      gradients: gradients, workspace: &workspace.local, execution: execution)
  }
}

extension ExpertParallelLayer: TrainableLayer {
  package var isSpread: Bool { true }

  package func forward(
    _ input: Activations, mask: [Bool]?, noise: RouterNoise?, recording: inout ExpertParallelRecording,
    into output: inout Activations, workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    try forward(
      input, mask: mask, sequenceLength: nil, noise: noise, recording: &recording, into: &output,
      workspace: &workspace, execution: execution)
  }

  package func evaluate(
    _ input: Activations, mask: [Bool]?, record: inout RoutingRecord, into output: inout Activations,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    try forward(
      input, mask: mask, into: &output, record: &record, workspace: &workspace, execution: execution)
  }

  package func statistics(
    of recording: inout ExpertParallelRecording, by grouping: TokenGrouping,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws -> RouterStatistics {
    try statistics(
      of: &recording, by: grouping, extent: .batch, workspace: &workspace, execution: execution)
  }

  package func backward(
    _ part: BackwardPart, _ outputGradient: Activations, input: Activations,
    recording: inout ExpertParallelRecording, losses: RouterLossGradients,
    into inputGradient: inout Activations, gradients: MoEGradients,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    if part == .parameters { return }
    try backward(
      outputGradient, input: input, recording: &recording, losses: losses, of: .batch, into: &inputGradient,
      gradients: gradients, workspace: &workspace, execution: execution)
  }
}
