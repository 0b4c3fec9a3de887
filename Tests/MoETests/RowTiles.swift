import CKernels
import MoE
import TestSupport

/// The groups of rows of the experts, with `offsets` [E+1] as the permutation writes them.
struct Groups {
  let offsets: [Int]

  init(rows: [Int]) { offsets = rows.reduce(into: [0]) { $0.append($0.last! + $1) } }

  var count: Int { offsets.count - 1 }
  var rowCount: Int { offsets.last! }
  var wide: [Int64] { offsets.map(Int64.init) }

  /// Returns the group of a row.
  func group(of row: Int) -> Int { offsets.lastIndex { $0 <= row }! }
}

/// Fenced row tiles of M rows × K in groups, and the place of each element.
///
/// A group of n rows takes ⌈n/MR⌉ tiles of equal height, but the last tile may be lower. The tiles of group e begin at
/// tile ⌊offsets[e]/MR⌋ + min(e, offsets[e]). A tile is [K'/16][MR][16] floats, or [K'/32][MR][32] bfloat16 if the
/// machine multiplies bfloat16, with K' = K rounded up to 32.
struct RowTiles {
  let instructionSet: InstructionSet
  let type: moe_format
  let groups: Groups
  let depth: Int
  let memory: Fenced<UInt8>

  init(_ instructionSet: InstructionSet, _ type: moe_format, groups: Groups, depth: Int) {
    (self.instructionSet, self.type, self.groups, self.depth) = (instructionSet, type, groups, depth)
    memory = Fenced(
      count: moe_rows_bytes(
        instructionSet.machine, type, Int64(groups.rowCount), Int64(groups.count), Int64(depth)))
  }

  /// The tiles in the kernels' C type.
  var cValue: moe_tiles { unsafe moe_tiles(data: memory.raw, columns: Int64(depth)) }

  /// K rounded up to 32.
  var paddedDepth: Int { (depth + 31) / 32 * 32 }

  private var isNarrow: Bool { instructionSet.keepsNarrowRows(type) }

  private func offset(row: Int, k: Int) -> Int {
    let (mr, group) = (instructionSet.tileRows, groups.group(of: row))
    let first = groups.offsets[group]
    let rows = groups.offsets[group + 1] - first
    let tiles = (rows + mr - 1) / mr
    let height = (rows + tiles - 1) / tiles
    let tile = first / mr + min(group, first) + (row - first) / height
    let line = isNarrow ? 32 : 16
    return tile * mr * paddedDepth + (k / line * mr + (row - first) % height) * line + k % line
  }

  /// Returns an element; k may reach into the padding.
  func element(row: Int, k: Int) -> Float {
    let offset = offset(row: row, k: k)
    if isNarrow {
      let half = unsafe memory.raw.load(fromByteOffset: offset * 2, as: UInt16.self)
      return Float(bitPattern: UInt32(half) << 16)
    }
    return unsafe memory.raw.load(fromByteOffset: offset * 4, as: Float.self)
  }

  /// Returns a row with its padding.
  func row(_ row: Int) -> [Float] { (0..<paddedDepth).map { element(row: row, k: $0) } }

  /// The number of four-byte words that M rows take; all other words stay unwritten.
  var wordCount: Int { groups.rowCount * paddedDepth / (isNarrow ? 2 : 1) }

  /// The number of four-byte words of the buffer.
  var capacity: Int { memory.count / 4 }

  /// Gathers rows of `x` [·, K]; nil order is the identity.
  func gather(_ x: FencedBuffer, order: [Int32]? = nil, weights: [Float]? = nil, threads: Int32 = 2) {
    let offsets = Fenced(groups.wide)
    let (indices, factors) = (order.map { Fenced($0) }, weights.map { Fenced($0) })
    unsafe moe_gather_rows(
      instructionSet.threads(threads), type, moe_groups(E: Int64(groups.count), offsets: offsets.base),
      x.base, Int64(depth), indices?.base, factors?.base, memory.raw)
    withExtendedLifetime((x, offsets, indices, factors)) {}
  }
}
