/// The order of a network's projections in one tensor.
enum Arrangement: Sendable {
  /// The tensor is one projection.
  case alone
  /// All rows of the gate, then all rows of the up projection.
  case gateThenUp
  /// Gate and up alternate row by row, the gate first.
  case gateUpInterleaved

  /// The number of projections that share the tensor.
  var parts: Int { self == .alone ? 1 : 2 }
}

/// The meaning of a stored matrix's rows.
enum Orientation: Sendable {
  /// `[outputs, inputs]`, as a linear layer of PyTorch stores its weight: y = x·Wᵀ.
  case outputRows
  /// `[inputs, outputs]`: y = x·W.
  case inputRows
}

/// One projection of a tensor that holds two.
enum Part: Int, Sendable {
  case gate, up
}

/// The storage of a matrix of shape `[outputs, inputs]`.
enum Storage: Sendable {
  /// Floats.
  case floats(Orientation)
  /// Two tensors, `NAME_blocks` `[…, outputs, inputs/32, 16]` and `NAME_scales` `[…, outputs, inputs/32]`.
  case mxfp4
}

/// One slice of a tensor: expert `index` of `[E, …]`, or the whole tensor where it is not stacked.
struct Slice: Sendable {
  var index = 0

  /// Returns the place of projection `part`, `[outputs, inputs]`, in a tensor of floats that holds `arrangement.parts`
  /// projections per expert.
  func view(
    outputs: Int, inputs: Int, _ orientation: Orientation, _ arrangement: Arrangement, _ part: Part
  ) -> StridedView {
    let allOutputs = outputs * arrangement.parts
    let (outputStride, inputStride) = orientation == .outputRows ? (inputs, 1) : (1, allOutputs)
    let (first, step) =
      switch arrangement {
      case .alone: (0, 1)
      case .gateThenUp: (part.rawValue * outputs, 1)
      case .gateUpInterleaved: (part.rawValue, 2)
      }
    return StridedView(
      start: index * allOutputs * inputs + first * outputStride, rows: outputs, columns: inputs,
      rowStride: step * outputStride, columnStride: inputStride)
  }
}
