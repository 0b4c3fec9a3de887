import Foundation
import MoE
import MoECheckpoints

/// Activations `[…, D]` of a safetensors file, of which each rank reads its part.
struct ActivationFile {
  /// `[…, D]`.
  let shape: [Int]
  /// D.
  let hiddenSize: Int
  /// T, the product of the other extents.
  let tokenCount: Int
  private let file: SafetensorsFile
  private let name: String

  /// Finds the tensor `name`, or the one tensor of the file.
  ///
  /// - Throws: `CheckpointError` where it is missing, ambiguous or without columns.
  init(path: String, tensor name: String?) throws {
    file = try SafetensorsFile(path: path)
    self.name = try Self.choose(name, of: file)
    let tensor = try file.tensor(self.name)
    shape = tensor.shape
    guard let columns = shape.last, columns > 0 else {
      throw CheckpointError(path, "tensor \(quoted(self.name)) has shape \(shape), expected […, D]")
    }
    hiddenSize = columns
    tokenCount = tensor.count / columns
  }

  /// Reads all tokens.
  ///
  /// - Throws: `CheckpointError` where a number is no float or not finite.
  func activations() throws -> Activations {
    let tokens = try tokens(0..<tokenCount)
    if let fault = fault(of: tokens) { throw error(fault.description(firstToken: 0)) }
    return try Activations(shape: shape, tokens: tokens)
  }

  /// Calls `body` with all bytes of the tensor. The pointer is valid inside `body` alone.
  ///
  /// - Throws: `CheckpointError` where the tensor cannot be read.
  func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) throws(CheckpointError) {
    try unsafe file.withBytes(named: name, body)
  }

  /// Reads the tokens of `range`, `[t, D]`, and nothing else of the tensor.
  ///
  /// - Throws: `CheckpointError` where a number is no float.
  func tokens(_ range: Range<Int>) throws(CheckpointError) -> Matrix {
    try file.rows(range, named: name, columns: hiddenSize)
  }

  /// Returns the first number of `tokens` that is not finite.
  func fault(of tokens: Matrix) -> Fault? {
    unsafe tokens.withUnsafeBufferPointer { values in
      guard let place = unsafe values.firstIndex(where: { !$0.isFinite }) else { return nil }
      return unsafe Fault(token: place / hiddenSize, column: place % hiddenSize, value: values[place])
    }
  }

  /// A number that is not finite, and its place.
  struct Fault: BitwiseCopyable {
    var token: Int
    var column: Int
    var value: Float

    func description(firstToken: Int) -> String {
      "has \(value) in column \(column) of token \(firstToken + token), expected finite numbers"
    }
  }

  /// Checks that tokens have the hidden size of `checkpoint`; reads no token.
  func require(hiddenSize: Int, of checkpoint: String) throws(CheckpointError) {
    if self.hiddenSize != hiddenSize {
      throw error(
        "has shape \(shape), expected […, \(hiddenSize)], the hidden size of \(checkpoint)")
    }
  }

  /// Makes an error about the tensor.
  func error(_ complaint: String) -> CheckpointError {
    CheckpointError(file.path, "tensor \(quoted(name)) \(complaint)")
  }

  private static func choose(_ name: String?, of file: SafetensorsFile) throws(CheckpointError) -> String {
    if let name {
      try file.require(name)
      return name
    }
    guard file.names.count == 1 else {
      throw CheckpointError(file.path, "holds \(file.list), expected one tensor or its name as --tensor")
    }
    return file.names[0]
  }
}

extension SafetensorsFile {
  /// The names of the tensors, the first twenty of them, for messages.
  var list: String {
    let names = names.sorted().prefix(20).map(quoted)
    return names.isEmpty
      ? "no tensor" : names.joined(separator: ", ") + (self.names.count > names.count ? ", …" : "")
  }

  /// Checks that the file has a tensor called `name`.
  func require(_ name: String) throws(CheckpointError) {
    if tensors[name] == nil {
      throw CheckpointError(path, "tensor \(quoted(name)) is missing, the file holds \(list)")
    }
  }
}
