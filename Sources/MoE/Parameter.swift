internal import CKernels
public import MoECore

/// One trainable tensor, or all tensors of one kind of a layer's experts, with the sum of the gradients.
///
/// Values, gradients and the optimizer's state have the same layout, that of the kernels, so an optimizer updates them
/// element by element. Padding is zero. It stays zero under an update rule that keeps a zero value whose gradient is
/// zero.
public final class Parameter {
  /// The group of a parameter. Experts see only a part of the tokens, so their parameters are clipped and counted
  /// separately.
  public enum Group: String, Sendable, CaseIterable {
    /// Parameters of the routed experts.
    case expert
    /// All other parameters.
    case other
  }

  /// A matrix of the parameter, with its name in a checkpoint.
  public struct Tensor: Sendable {
    /// Its name in a checkpoint.
    public let name: String
    /// `[rows, columns]`; a bias or a gain is one row.
    public let shape: [Int]
    /// The place of its elements among the floats of the parameter.
    package let layout: Layout

    /// The layout of a matrix in memory.
    package enum Layout: Sendable, Equatable {
      /// Row after row without gaps, from the float `offset` on.
      case rows(offset: Int = 0)
      /// In panels, as the kernels read weights.
      case panels(PanelPlace)
    }

    package var rows: Int { shape[0] }
    package var columns: Int { shape[1] }

    package init(name: String, rows: Int, columns: Int, layout: Layout = .rows()) {
      self.name = name
      shape = [rows, columns]
      self.layout = layout
    }

    /// Returns the index of the float at which a row begins.
    package func offset(ofRow row: Int) -> Int {
      switch layout {
      case .rows(let offset): offset + row * columns
      case .panels(let place): place.offset(row: row, columns: columns)
      }
    }

    /// The distance in floats from one element of a row to the next.
    package var columnStep: Int {
      switch layout {
      case .rows: 1
      case .panels: MOE_PANEL
      }
    }
  }

  /// The parameter's name in errors and metrics.
  public let name: String
  /// The parameter's group.
  public let group: Group
  /// Whether weight decay applies: true for weights, false for gains and biases.
  public let decays: Bool
  /// The matrices that the parameter holds.
  public let tensors: [Tensor]
  /// The number of floats of the parameter, padding included.
  public let count: Int
  /// The layer's experts whose matrices the parameter holds, each in an equal part of its memory; empty if it holds no
  /// expert's.
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

  /// Makes a parameter of one row-major matrix, with zeros as gradients.
  package convenience init(
    name: String, decays: Bool = true, matrix: Matrix
  ) throws(MoEError) {
    let values = try Memory(byteCount: matrix.count * MemoryLayout<Float>.stride)
    unsafe matrix.withUnsafeBufferPointer { elements in
      if let base = elements.baseAddress { unsafe values.floats.update(from: base, count: matrix.count) }
    }
    self.init(
      name: name, group: .other, decays: decays,
      tensors: [Tensor(name: name, rows: matrix.rows, columns: matrix.columns)],
      count: matrix.count, values: values,
      gradient: try Memory(zeroed: matrix.count * MemoryLayout<Float>.stride))
  }

  /// The number of elements without padding.
  public var elementCount: Int { tensors.reduce(0) { $0 + $1.rows * $1.columns } }

  /// Sets the gradients to zero.
  package func resetGradient() { gradient.zero() }

  /// Returns a copy of the values of one of its ``tensors``.
  public func values(of tensor: Tensor) -> Matrix { matrix(tensor, in: values) }

  /// Returns a copy of the gradient of one of its ``tensors``: the sum since the gradient was last set to zero.
  public func gradient(of tensor: Tensor) -> Matrix { matrix(tensor, in: gradient) }

  /// Returns a matrix from memory in this parameter's layout: its values, its gradients or an optimizer's state.
  package func matrix(_ tensor: Tensor, in memory: Memory) -> Matrix {
    var matrix = Matrix(rows: tensor.rows, columns: tensor.columns)
    let (source, step) = unsafe (memory.floats, tensor.columnStep)
    unsafe matrix.withUnsafeMutableBufferPointer { elements in
      for row in 0..<tensor.rows {
        let start = tensor.offset(ofRow: row)
        for column in 0..<tensor.columns {
          unsafe elements[row * tensor.columns + column] = source[start + column * step]
        }
      }
    }
    return matrix
  }

  /// Overwrites a matrix in memory in this parameter's layout; the padding stays unchanged.
  package func set(_ matrix: Matrix, _ tensor: Tensor, in memory: Memory) {
    precondition(matrix.shape == tensor.shape, "\(tensor.name) has shape \(tensor.shape)")
    let (target, step) = unsafe (memory.floats, tensor.columnStep)
    unsafe matrix.withUnsafeBufferPointer { elements in
      for row in 0..<tensor.rows {
        let start = tensor.offset(ofRow: row)
        for column in 0..<tensor.columns {
          unsafe target[start + column * step] = elements[row * tensor.columns + column]
        }
      }
    }
  }
}
