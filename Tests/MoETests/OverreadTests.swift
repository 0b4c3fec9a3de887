import CKernels
import MoE
import MoECore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Floats that end just before a page without access. A load beyond the last float ends the process, even in a lane
/// whose value is not used. (A `FencedBuffer` shows only loads that reach a result.)
@safe private final class GuardedFloats {
  private static let page = 4096
  private let memory: UnsafeMutableRawPointer
  private let bytes: Int
  let base: UnsafeMutablePointer<Float>

  init(_ elements: [Float]) {
    let size = elements.count * 4
    bytes = (size + Self.page - 1) / Self.page * Self.page + Self.page
    unsafe memory = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    unsafe base = (memory + bytes - Self.page - size).assumingMemoryBound(to: Float.self)
    for (index, element) in elements.enumerated() { unsafe base[index] = element }
    unsafe mprotect(memory + bytes - Self.page, Self.page, PROT_NONE)
  }

  deinit { unsafe munmap(memory, bytes) }
}

/// Kernels read the caller's matrices row by row. They must not read beyond the last row, at any width.
@Suite struct OverreadTests {
  static let widths = Array(1...40) + [63, 64, 65, 100, 127, 129]

  private func values(_ count: Int) -> [Float] { (0..<count).map { Float($0 % 7) - 3 } }

  @Test(arguments: InstructionSet.supported)
  func combineStopsAtTheLastElement(_ isa: InstructionSet) {
    for width in Self.widths {
      let (y, branch) = (GuardedFloats(values(2 * width)), GuardedFloats(values(width)))
      let (weights, gates) = (GuardedFloats([0.5, 2]), GuardedFloats([0.25, 4]))
      let (rows, out) = (Fenced<Int32>([1, 0]), GuardedFloats(values(width)))
      var choices = unsafe moe_choices(
        T: 1, K: 2, D: Int64(width), y: y.base, choice_row: rows.base, weights: weights.base)
      var dense = unsafe moe_branch(rows: branch.base, gates: gates.base, gate_columns: 2)
      unsafe moe_combine(isa.threads(1), &choices, &dense, out.base)
      let expected = 0.25 * (0.5 * values(2 * width)[2 * width - 1] + 2 * values(width)[width - 1])
      #expect(unsafe out.base[width - 1] == expected + 4 * values(width)[width - 1])
    }
  }

  @Test(arguments: InstructionSet.supported)
  func gatherStopsAtTheLastElement(_ isa: InstructionSet) {
    for (width, type) in Self.widths.flatMap({ [($0, MOE_FLOAT32), ($0, MOE_BFLOAT16)] }) {
      let x = GuardedFloats(values(3 * width))
      let tiles = RowTiles(isa, type, groups: Groups(rows: [3]), depth: width)
      let offsets = Fenced(tiles.groups.wide)
      unsafe moe_gather_rows(
        isa.threads(1), type, moe_groups(E: 1, offsets: offsets.base), x.base, Int64(width), nil, nil,
        tiles.memory.raw)
      #expect(tiles.element(row: 2, k: width - 1) == values(3 * width)[3 * width - 1])
    }
  }

  @Test(arguments: InstructionSet.supported)
  func routerStopsAtTheLastElement(_ isa: InstructionSet) {
    for (width, expertCount) in Self.widths.flatMap({ [($0, 3), ($0, 17)] }) {
      let x = GuardedFloats(values(5 * width))
      let panels = packed(Matrix(rows: expertCount, columns: width), MOE_FLOAT32)
      let (bias, logits) = (GuardedFloats(values(expertCount)), GuardedFloats(values(5 * expertCount)))
      let (ids, weights) = (Fenced<Int32>(count: 5), Fenced<Float>(count: 5))
      let scratch = Fenced.scratch(moe_router_scratch_bytes(isa.threads(1), Int64(expertCount)))
      var (rule, out) = unsafe (RoutingPolicy(scoring: .softmax).rule, moe_router_output())
      unsafe (out.expert_ids, out.weights) = unsafe (ids.base, weights.base)
      var input = unsafe moe_router_input(
        T: 5, E: Int64(expertCount), K: 1, logits: nil, x: x.base, D: Int64(width),
        panels: panels.raw.assumingMemoryBound(to: Float.self), bias: bias.base, selection_bias: bias.base,
        given_ids: nil, mask: nil)
      #expect(unsafe moe_router(isa.threads(1), &rule, &input, &out, scratch.raw) == -1)
      unsafe (input.logits, input.bias) = unsafe (UnsafePointer(logits.base), nil)
      #expect(unsafe moe_router(isa.threads(1), &rule, &input, &out, scratch.raw) == -1)
    }
  }
}
