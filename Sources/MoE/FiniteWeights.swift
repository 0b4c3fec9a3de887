internal import MoECore

extension FeedForwardWeights {
  /// Checks that no stored parameter is NaN or infinite, so that no such value reaches an output.
  ///
  /// - Parameters:
  ///   - matrices: whether packing found all elements of the matrices finite; if so, they are not searched.
  ///   - precision: the format in which the matrices are stored. Biases are stored in fp32.
  ///   - owner: the network, as the error names it.
  /// - Throws: `MoEError.invalidConfiguration` naming the parameter, the place and the value.
  func requireFinite(
    matrices isFinite: Bool, storedAs precision: Precision, owner: String
  ) throws(MoEError) {
    if !isFinite {
      for (name, matrix) in [("gate", gate), ("up", up), ("down", down)] {
        try matrix?.requireFinite("the \(name) projection of \(owner)", storedAs: precision)
      }
    }
    for (name, bias) in [("gate", gateBias), ("up", upBias), ("down", downBias)] {
      if let index = bias?.firstIndex(where: { !$0.isFinite }) {
        throw .invalidConfiguration(
          "the \(name) bias of \(owner) has \(bias![index]) at \(index), expected a finite number")
      }
    }
  }
}

extension Matrix {
  /// Throws `MoEError.invalidConfiguration` naming the first element that is not finite when stored in `precision`.
  func requireFinite(_ what: String, storedAs precision: Precision) throws(MoEError) {
    for row in 0..<rows {
      for column in 0..<columns {
        let value = self[row, column]
        if !value.isFinite {
          throw .invalidConfiguration("\(what) has \(value) at [\(row), \(column)], expected a finite number")
        }
        if precision == .bfloat16, !BFloat16.isFinite(value) {
          throw .invalidConfiguration(
            "\(what) has \(value) at [\(row), \(column)], which is infinite in bf16; f32 holds it")
        }
      }
    }
  }
}

private enum BFloat16 {
  /// Whether a finite value stays finite when rounded to bfloat16 (to nearest, ties to even).
  static func isFinite(_ value: Float) -> Bool { value.magnitude.bitPattern < 0x7F7F_8000 }
}
