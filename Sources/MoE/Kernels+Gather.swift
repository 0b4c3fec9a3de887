internal import CKernels
internal import MoECore

extension RowGroups {
  /// The groups in the kernels' C type; valid as long as their memory is.
  var cValue: moe_groups { unsafe moe_groups(E: Int64(groupCount), offsets: offsets.base) }
}

extension RowTiles {
  /// The tiles in the kernels' C type; valid as long as their memory is.
  var cValue: moe_tiles { unsafe moe_tiles(data: memory.base, columns: Int64(width)) }
  /// The tiles with their padding: the columns of whole pairs of panels.
  var cPadded: moe_tiles {
    unsafe moe_tiles(
      data: memory.base, columns: Int64(Kernels.panels(Kernels.padded(width))) * Int64(MOE_PANEL))
  }
}

extension Kernels {
  /// Gathers rows of `tokens` [·, width] into tiles, each times its weight in `weights` [M] unless nil.
  static func gather(
    _ tokens: MemoryView<Float>, width: Int, _ groups: RowGroups, weights: MemoryView<Float>?,
    precision: Precision, execution: Execution, into scratch: inout Scratch
  ) throws(MoEError) -> RowTiles {
    let tiles = try reserveTiles(groups, width: width, precision: precision, execution, in: &scratch)
    unsafe moe_gather_rows(
      execution.cValue, precision.cValue, groups.cValue, tokens.base, Int64(width), groups.tokens?.base,
      weights?.base, tiles.memory.base)
    return tiles
  }

  /// Reserves memory for the tiles of `groups`.
  static func reserveTiles(
    _ groups: RowGroups, width: Int, precision: Precision, _ execution: Execution,
    in scratch: inout Scratch
  ) throws(MoEError) -> RowTiles {
    let bytes = moe_rows_bytes(
      execution.instructionSet.cValue, precision.cValue, Int64(groups.rowCount), Int64(groups.groupCount),
      Int64(width))
    return RowTiles(
      memory: try scratch.reserve(bytes: bytes), groups: groups, width: width, precision: precision)
  }
}
