package import MoECheckpoints
package import MoECore

/// The matrices of a checkpoint, in one file or in several.
package protocol CheckpointContent {
  /// The file or folder, as errors name it.
  var path: String { get }
  /// The metadata: strings about the run, by key.
  var metadata: NamedValues<String> { get }
  /// The names of its tensors.
  var names: [String] { get }
  /// Checks that a tensor exists as F32 of shape `shape`, and opens its file.
  ///
  /// - Throws: `CheckpointError` naming the file and the tensor.
  func check(_ name: String, shape: [Int]) throws(CheckpointError)
  /// Reads a tensor of two dimensions.
  ///
  /// - Throws: `CheckpointError` naming the file and the tensor.
  func matrix(named name: String) throws(CheckpointError) -> Matrix
}

extension SafetensorsFile: CheckpointContent {
  package func check(_ name: String, shape: [Int]) throws(CheckpointError) {
    let tensor = try tensor(name)
    guard tensor.shape == shape, tensor.type == .float32 else {
      throw CheckpointError(
        path,
        "tensor \(quoted(name)) is \(tensor.type) of shape \(tensor.shape), expected F32 of \(shape)"
      )
    }
  }
}
