internal import CKernels
public import MoECore

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
    /// `[rows, columns]`; a bias or a gain is one row.
    public let shape: [Int]
    /// Where its elements are among the floats of the parameter.
    package let layout: Layout

    /// How a matrix lies in memory.
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

    /// The float at which a row begins.
    package func offset(ofRow row: Int) -> Int {
      switch layout {
      case .rows(let offset): offset + row * columns
      case .panels(let place): place.offset(row: row, columns: columns)
      }
    }

    /// The floats from one element of a row to the next.
    package var columnStep: Int {
      switch layout {
      case .rows: 1
      case .panels: MOE_PANEL
      }
    }
  }

  /// What errors and metrics call it.
  public let name: String
  /// What it belongs to.
  public let group: Group
  /// Whether weight decay applies: to weights, not to gains and biases.
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

  /// The elements without padding.
  public var elementCount: Int { tensors.reduce(0) { $0 + $1.rows * $1.columns } }

  /// Sets the gradients to zero.
  package func resetGradient() { gradient.zero() }

  /// Returns a copy of the values of one of its ``tensors``.
  public func values(of tensor: Tensor) -> Matrix { matrix(tensor, in: values) }

  /// Returns a copy of the gradient of one of its ``tensors``: the sum since it was last set to zero.
  public func gradient(of tensor: Tensor) -> Matrix { matrix(tensor, in: gradient) }

  /// Returns a matrix out of memory of this parameter's layout: its values, its gradients, or an optimizer's.
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

  /// Overwrites a matrix in memory of this parameter's layout; the padding around it stays.
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
