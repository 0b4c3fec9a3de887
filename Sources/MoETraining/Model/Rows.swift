internal import MoE

/// Rows [B·S, width] that kernels write through a pointer and layers take as activations.
@safe final class Rows {
  /// Never copied, because `floats` points into its only storage.
  var activations: Activations

  init(sequences: Int, length: Int, width: Int) throws(MoEError) {
    activations = try Activations(
      shape: [sequences, length, width], tokens: Matrix(rows: sequences * length, columns: width))
  }

  var floats: UnsafeMutablePointer<Float> { unsafe activations.tokens.uniqueBase }
}

extension Memory {
  /// Allocates `count` floats without a defined content.
  convenience init(floats count: Int) throws(MoEError) {
    try self.init(byteCount: count * MemoryLayout<Float>.stride)
  }
}
