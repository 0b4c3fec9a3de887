package import MoECore

/// One trainable tensor, or those of one kind of all experts of a layer, with the sum of its gradients.
///
/// Values, gradients and whatever an optimizer keeps beside them have the same layout, that of the kernels, so an
/// optimizer walks them element by element. Padding is zero and stays zero under a rule that keeps zeros with
/// zero gradients.
public final class Parameter {
  /// What a parameter belongs to: experts see a part of the tokens and are clipped and counted apart.
  public enum Group: String, Sendable, CaseIterable {
    /// Parameters of the routed experts.
    case expert
    /// All others.
    case other
  }

  /// A matrix of the parameter, as a checkpoint names it.
  public struct Tensor: Sendable {
    /// Its name in a checkpoint.
    public let name: String
    /// `[rows, columns]`.
    public let shape: [Int]
    /// nil for a matrix that begins the memory row by row.
    package let place: PanelPlace?

    package var rows: Int { shape[0] }
    package var columns: Int { shape[1] }

    package init(name: String, rows: Int, columns: Int, place: PanelPlace?) {
      self.name = name
      shape = [rows, columns]
      self.place = place
    }
  }

  /// What errors and metrics call it.
  public let name: String
  /// What it belongs to.
  public let group: Group
  /// Whether weight decay applies: to matrices, not to gains.
  public let decays: Bool
  /// The matrices it holds.
  public let tensors: [Tensor]
  /// The floats it takes, padding included.
  public let count: Int
  /// The layer's experts whose matrices it holds, each in an equal part of its memory; empty where it is of none.
  package let experts: [Int]
  package let values: Memory
  package let gradient: Memory

  package init(
    name: String, group: Group, decays: Bool, tensors: [Tensor], count: Int, experts: [Int] = [],
    values: Memory, gradient: Memory
  ) {
    self.name = name
    self.group = group
    self.decays = decays
    self.tensors = tensors
    self.count = count
    self.experts = experts
    self.values = values
    self.gradient = gradient
  }

  /// A row-major matrix of its own, with zeros as gradients.
  package convenience init(
    name: String, decays: Bool = true, matrix: Matrix
  ) throws(MoEError) {
    let values = try Memory(byteCount: matrix.count * MemoryLayout<Float>.stride)
    unsafe matrix.withUnsafeBufferPointer { elements in
      if let base = elements.baseAddress { unsafe values.floats.update(from: base, count: matrix.count) }
    }
    self.init(
      name: name, group: .other, decays: decays,
      tensors: [Tensor(name: name, rows: matrix.rows, columns: matrix.columns, place: nil)],
      count: matrix.count, values: values,
      gradient: try Memory(zeroed: matrix.count * MemoryLayout<Float>.stride))
  }

  /// The elements without padding.
  public var elementCount: Int { tensors.reduce(0) { $0 + $1.rows * $1.columns } }

  /// Sets the gradients to zero.
  package func resetGradient() { gradient.zero() }

  /// A matrix out of memory of this parameter's layout: its values, its gradients, or an optimizer's.
  package func matrix(_ tensor: Tensor, in memory: Memory) -> Matrix {
    if let place = tensor.place {
      return memory.matrix(place, rows: tensor.rows, columns: tensor.columns)
    }
    var matrix = Matrix(rows: tensor.rows, columns: tensor.columns)
    unsafe matrix.withUnsafeMutableBufferPointer { elements in
      unsafe elements.baseAddress!.update(from: memory.floats, count: elements.count)
    }
    return matrix
  }

  /// Overwrites a matrix in memory of this parameter's layout.
  package func set(_ matrix: Matrix, _ tensor: Tensor, in memory: Memory) {
    precondition(matrix.shape == tensor.shape, "\(tensor.name) has shape \(tensor.shape)")
    if let place = tensor.place { return memory.set(matrix, at: place) }
    unsafe matrix.withUnsafeBufferPointer { elements in
      unsafe memory.floats.update(from: elements.baseAddress!, count: elements.count)
    }
  }
}
