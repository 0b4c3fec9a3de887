public import MoECore

/// What a recorded forward pass leaves for its backward pass, in storage reused from pass to pass.
///
/// It is not copyable; one recording belongs to one pass at a time. Any number of them, for layers or for parts of
/// a batch, can wait for their backward passes beside one ``Workspace``.
public struct Recording: ~Copyable {
  /// How much of a pass is kept.
  public enum Extent: Sendable {
    /// Every activation the backward pass reads: for M rows M·(2·D + 3·F) values with a gated activation, M·(2·D + 2·F)
    /// without, and the dense branch's.
    case full
    /// The routing alone, T·(K + E) values; the backward pass computes the activations again, to the same bits
    /// (Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*, §3).
    case recompute
  }

  /// How much of a pass is kept.
  public let extent: Extent
  /// What happened to the tokens of the recorded pass.
  public package(set) var record = RoutingRecord()
  package var routing = RoutingScratch()
  /// The activations of a full recording.
  package var experts = TileScratch()
  package var dense = TileScratch()
  /// The pass that was recorded and waits for its backward; nil where there is none.
  package var pass: RecordedPass?

  /// Makes an empty recording to pass to
  /// ``MoELayer/forward(_:mask:noise:recording:into:workspace:execution:)``.
  public init(_ extent: Extent = .full) { self.extent = extent }
}

/// What a backward pass has to have in common with its forward pass.
package struct RecordedPass: Equatable {
  var configuration: MoEConfiguration
  var precision: Precision
  var instructionSet: InstructionSet
  var tokenCount: Int
}
