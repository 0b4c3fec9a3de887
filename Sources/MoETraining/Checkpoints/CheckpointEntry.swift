package import MoECore

/// A matrix of a checkpoint, and how the model's copy of it is read and written.
package struct CheckpointEntry {
  /// The name in the checkpoint, which is equal on every rank that holds the matrix. The name of an expert's matrix
  /// has the expert's number among all experts of the layer.
  package let name: String
  /// `[rows, columns]`.
  package let shape: [Int]
  /// Returns the current values.
  package let read: () -> Matrix
  /// Replaces the values.
  package let write: (Matrix) -> Void

  /// Describes a matrix by its name, its shape and how it is read and written.
  package init(
    name: String, shape: [Int], read: @escaping () -> Matrix, write: @escaping (Matrix) -> Void
  ) {
    self.name = name
    self.shape = shape
    self.read = read
    self.write = write
  }
}
