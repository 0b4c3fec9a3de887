/// A matrix inside a tensor: element (r, c) is the tensor's element `start + r·rowStride + c·columnStride`.
struct StridedView: Equatable {
  var start: Int
  var rows: Int
  var columns: Int
  var rowStride: Int
  var columnStride = 1

  /// One past the last element used.
  var end: Int {
    rows == 0 || columns == 0 ? start : start + (rows - 1) * rowStride + (columns - 1) * columnStride + 1
  }
}
