package import MoECore

/// A matrix of a checkpoint and where it belongs.
package struct CheckpointEntry {
  /// Its name in the checkpoint, the same on every rank that holds it: of an expert, with its number among all.
  package let name: String
  /// `[rows, columns]`.
  package let shape: [Int]
  /// What it is now.
  package let read: () -> Matrix
  /// Puts another in its place.
  package let write: (Matrix) -> Void

  /// Collects them.
  package init(
    name: String, shape: [Int], read: @escaping () -> Matrix, write: @escaping (Matrix) -> Void
  ) {
    self.name = name
    self.shape = shape
    self.read = read
    self.write = write
  }
}
