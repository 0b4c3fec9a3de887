internal import ExpertParallel
internal import MoE
internal import MoECore

/// The layer of a feed-forward block: whole on this rank, or with its experts spread over ranks.
enum BlockLayer {
  case whole(MoELayer)
  case spread(ExpertParallelLayer)

  /// The parameters that this rank holds.
  var held: MoELayer {
    switch self {
    case .whole(let layer): layer
    case .spread(let layer): layer.localLayer
    }
  }

  var isSpread: Bool { if case .spread = self { true } else { false } }

  /// Returns a layer with these parameters and another configuration.
  func with(_ configuration: MoEConfiguration) throws(MoEError) -> BlockLayer {
    switch self {
    case .whole(let layer): .whole(layer.with(configuration))
    case .spread(let layer): .spread(try layer.with(configuration))
    }
  }

  /// Returns a copy whose networks are in bfloat16.
  func narrowed(execution: Execution) throws(MoEError) -> BlockLayer {
    switch self {
    case .whole(let layer): .whole(try layer.narrowed(execution: execution))
    case .spread(let layer): .spread(try layer.narrowed(execution: execution))
    }
  }

  func parameters(prefix: String, gradients: MoEGradients) throws(MoEError) -> [Parameter] {
    switch self {
    case .whole(let layer): try layer.parameters(prefix: prefix, gradients: gradients)
    case .spread(let layer): try layer.parameters(prefix: prefix, gradients: gradients)
    }
  }

  /// Applies the layer and records the pass. This and all methods below are collectives where the layer is spread.
  func forward(
    _ input: Rows, noise: RouterNoise?, recording: inout ExpertParallelRecording, into output: Rows,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    switch self {
    case .whole(let layer):
      try layer.forward(
        input.activations, noise: noise, recording: &recording.local, into: &output.activations,
        workspace: &workspace.local, execution: execution)
    case .spread(let layer):
      try layer.forward(
        input.activations, noise: noise, recording: &recording, into: &output.activations,
        workspace: &workspace, execution: execution)
    }
  }

  /// Applies the layer without recording the pass.
  func forward(
    _ input: Rows, record: inout RoutingRecord, into output: Rows, workspace: inout ExpertParallelWorkspace,
    execution: Execution
  ) throws {
    switch self {
    case .whole(let layer):
      try layer.forward(
        input.activations, into: &output.activations, record: &record, workspace: &workspace.local,
        execution: execution)
    case .spread(let layer):
      try layer.forward(
        input.activations, into: &output.activations, record: &record, workspace: &workspace,
        execution: execution)
    }
  }

  /// Returns the sums from which the losses of a recorded pass are computed, over the tokens of all ranks.
  func statistics(
    of recording: inout ExpertParallelRecording, by grouping: TokenGrouping,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws -> RouterStatistics {
    switch self {
    case .whole(let layer):
      try layer.statistics(
        of: &recording.local, by: grouping, workspace: &workspace.local, execution: execution)
    case .spread(let layer):
      try layer.statistics(of: &recording, by: grouping, workspace: &workspace, execution: execution)
    }
  }

  /// Computes the gradients of a recorded pass. A spread layer computes all of them in the part `.input`, and nothing
  /// in the part `.parameters`.
  func backward(
    _ part: BackwardPart, _ outputGradient: Rows, input: Rows, recording: inout ExpertParallelRecording,
    losses: RouterLossGradients, into inputGradient: Rows, gradients: MoEGradients,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    switch self {
    case .whole(let layer):
      try layer.backward(
        part, outputGradient.activations, input: input.activations, recording: &recording.local,
        losses: losses, into: &inputGradient.activations, gradients: gradients, workspace: &workspace.local,
        execution: execution)
    case .spread(let layer):
      if part == .parameters { return }
      try layer.backward(
        outputGradient.activations, input: input.activations, recording: &recording, losses: losses,
        into: &inputGradient.activations, gradients: gradients, workspace: &workspace, execution: execution)
    }
  }
}
