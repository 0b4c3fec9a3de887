/// A matrix inside a tensor. Element (r, c) of the matrix is element `start + r·rowStride + c·columnStride` of the tensor.
struct StridedView: Equatable {
  var start: Int
  var rows: Int
  var columns: Int
  var rowStride: Int
  var columnStride = 1

  /// The element after the last one of the matrix.
  var end: Int {
    rows == 0 || columns == 0 ? start : start + (rows - 1) * rowStride + (columns - 1) * columnStride + 1
  }
}
