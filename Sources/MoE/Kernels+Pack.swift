internal import CKernels
internal import MoECore

extension Kernels {
  /// Returns D or F padded to the multiple of 32 that the kernels reduce over.
  static func padded(_ size: Int) -> Int {
    (size + MOE_K_MULTIPLE - 1) / MOE_K_MULTIPLE * MOE_K_MULTIPLE
  }

  /// Returns the number of panels of 16 columns that cover `columns`.
  static func panels(_ columns: Int) -> Int {
    (columns + MOE_PANEL - 1) / MOE_PANEL
  }

  /// Returns the size in bytes of `panels` panels over `depth` values of k.
  static func panelBytes(_ precision: Precision, panels: Int, depth: Int) -> Int {
    moe_panels_bytes(precision.cValue, Int64(panels), Int64(depth))
  }

  /// Packs `matrix` [N, K] into every `stride`-th panel of `memory`, from panel `first` on.
  ///
  /// - Returns: whether all packed values are finite.
  @discardableResult static func pack(
    _ matrix: Matrix, precision: Precision, into memory: Memory, first: Int, stride: Int,
    execution: Execution
  ) -> Bool {
    let offset = panelBytes(precision, panels: first, depth: matrix.columns)
    return unsafe matrix.withUnsafeBufferPointer { elements in
      unsafe moe_pack_panels(
        execution.cValue, precision.cValue, elements.baseAddress, Int64(matrix.rows), Int64(matrix.columns),
        memory.base + offset, Int64(stride))
    }
  }

  /// Rounds the float32 panels of `master` to bfloat16 in `copy`: `panels` panels over `depth` values of k.
  static func narrow(_ master: Memory, to copy: Memory, panels: Int, depth: Int, execution: Execution) {
    unsafe moe_narrow_panels(
      execution.cValue, MOE_BFLOAT16, master.floats, Int64(panels), Int64(depth), copy.base)
  }
}
