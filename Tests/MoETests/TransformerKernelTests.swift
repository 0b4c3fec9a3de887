import CKernels
import MoE
import MoECore
import TestSupport
import Testing

/// The kernels around a transformer's layers against their definitions in Double.
@Suite struct TransformerKernelTests {
  /// A width for each lane in which a vector machine can end, and some larger widths.
  static let widths = Array(1...35) + [63, 64, 65, 150]

  @Test(arguments: InstructionSet.supported)
  func norm(_ set: InstructionSet) {
    for (seed, width) in Self.widths.enumerated() {
      var generator = SeededGenerator(seed: UInt64(seed))
      let rows = generator.pick([0, 1, 31, 32, 33, 70])
      let scale: Float = generator.pick([1, 1e-12, 1e12])
      func random(_ count: Int) -> [Float] { (0..<count).map { _ in generator.normal() * scale } }
      let (x, addend, gain) = (random(rows * width), random(rows * width), random(width))
      let epsilon: Float = 1e-6
      for hasAddend in [false, true] {
        var results: [[[UInt32]]] = []
        for threads in threadCounts {
          let (a, b, g) = (Fenced(x), Fenced(addend), Fenced(gain))
          let sum = Fenced<Float>(count: rows * width)
          let y = Fenced<Float>(count: rows * width)
          let inverse = Fenced<Float>(count: rows)
          unsafe moe_rms_norm(
            set.threads(threads),
            moe_norm(T: Int64(rows), D: Int64(width), gain: g.base, epsilon: epsilon), a.base,
            hasAddend ? b.base : nil, sum.base, y.base, inverse.base)
          #expect(sum.fencesIntact && y.fencesIntact && inverse.fencesIntact)
          results.append([bits(sum.elements), bits(y.elements), bits(inverse.elements)])
          guard threads == 1 else { continue }
          for row in 0..<rows {
            let values = (0..<width).map { column in
              x[row * width + column] + (hasAddend ? addend[row * width + column] : 0)
            }
            let squares = values.reduce(0) { $0 + Double($1) * Double($1) }
            let root = (squares / Double(width) + Double(epsilon)).squareRoot()
            for column in 0..<width {
              #expect(sum.elements[row * width + column] == values[column])
              let exact = Double(values[column]) / root * Double(gain[column])
              // A sum of squares of `width` terms, a quotient, a root, a reciprocal and two products.
              let bound = abs(exact) * Tolerance.gamma(width + 8) + 4 * Tolerance.singleUnderflow
              #expect(abs(Double(y.elements[row * width + column]) - exact) <= bound)
            }
          }
        }
        #expect(results.allSatisfy { $0 == results[0] })
      }
    }
  }

  @Test(arguments: InstructionSet.supported)
  func normBackward(_ set: InstructionSet) {
    for (seed, width) in Self.widths.enumerated() {
      var generator = SeededGenerator(seed: UInt64(100 + seed))
      let rows = generator.pick([0, 1, 31, 33, 70])
      func random(_ count: Int) -> [Float] { (0..<count).map { _ in generator.normal() } }
      let (x, dy, before) = (random(rows * width), random(rows * width), random(rows * width))
      let (gain, gainBefore) = (random(width), random(width))
      let inverses = (0..<rows).map { row in
        let squares = (0..<width).reduce(0) { $0 + Double(x[row * width + $1]) * Double(x[row * width + $1]) }
        return Float(1 / (squares / Double(width) + 1e-6).squareRoot())
      }
      var results: [[[UInt32]]] = []
      // All rows at once, and in two parts one after the other.
      for (threads, split) in [(1, rows), (2, rows), (7, rows), (2, rows / 3)] as [(Int32, Int)] {
        let (a, d, g, v) = (Fenced(x), Fenced(dy), Fenced(gain), Fenced(inverses))
        let (dx, dgain) = (Fenced(before), Fenced(gainBefore))
        for (first, count) in [(0, split), (split, rows - split)] {
          unsafe moe_rms_norm_backward(
            set.threads(threads), moe_norm(T: Int64(count), D: Int64(width), gain: g.base, epsilon: 0),
            d.base + first * width, a.base + first * width, v.base + first, dx.base + first * width,
            dgain.base)
        }
        #expect(dx.fencesIntact && dgain.fencesIntact)
        results.append([bits(dx.elements), bits(dgain.elements)])
        guard threads == 1 else { continue }
        for row in 0..<rows {
          let inverse = Double(inverses[row])
          let products = (0..<width).map {
            Double(dy[row * width + $0]) * Double(gain[$0]) * Double(x[row * width + $0])
          }
          let (sum, size) = (products.reduce(0, +), products.reduce(0) { $0 + abs($1) })
          for column in 0..<width {
            let at = row * width + column
            let direct = Double(dy[at]) * Double(gain[column]) * inverse
            let along = Double(x[at]) * inverse * inverse * inverse / Double(width)
            let bound =
              Tolerance.gamma(width + 12)
              * (abs(direct) + abs(along) * size + abs(Double(before[at]))) + 4 * Tolerance.singleUnderflow
            #expect(
              abs(Double(dx.elements[at]) - (Double(before[at]) + direct - along * sum)) <= bound)
          }
        }
        for column in 0..<width {
          let terms = (0..<rows).map {
            Double(dy[$0 * width + column]) * Double(x[$0 * width + column]) * Double(inverses[$0])
          }
          let size = terms.reduce(abs(Double(gainBefore[column]))) { $0 + abs($1) }
          #expect(
            abs(Double(dgain.elements[column]) - terms.reduce(Double(gainBefore[column]), +))
              <= Tolerance.gamma(rows + 2) * size)
        }
      }
      #expect(results.allSatisfy { $0 == results[0] }, "width \(width), \(rows) rows")
    }
  }

  @Test(arguments: InstructionSet.supported)
  func rotation(_ set: InstructionSet) {
    for (seed, half) in ([1, 2, 7, 8, 15, 16, 17, 32, 40]).enumerated() {
      var generator = SeededGenerator(seed: UInt64(200 + seed))
      let (length, first, heads, rows) = (5, 3, 3, 37)
      let stride = heads * 2 * half + 4
      let x = (0..<rows * stride).map { _ in generator.normal() }
      let angles = (0..<(length + first) * half).map { _ in Double(generator.uniform()) * 6 }
      let cosines = Fenced(angles.map { Float($0.cosine) })
      let sines = Fenced(angles.map { Float($0.sine) })
      for back in [false, true] {
        let rotated = Fenced(x)
        var rotary = unsafe moe_rotary(
          S: Int64(length), first_position: Int64(first), heads: Int64(heads), head_size: Int64(2 * half),
          cosines: cosines.base, sines: sines.base)
        unsafe moe_rotate(set.threads(2), &rotary, rotated.base, Int64(rows), Int64(stride), back)
        #expect(rotated.fencesIntact)
        for row in 0..<rows {
          for column in 0..<stride {
            let at = row * stride + column
            guard column < heads * 2 * half else {
              #expect(rotated.elements[at] == x[at])
              continue
            }
            let within = column % (2 * half)
            let angle = (first + row % length) * half + within % half
            let (c, s) = (Double(cosines.elements[angle]), Double(sines.elements[angle]) * (back ? -1 : 1))
            let other = Double(x[at + (within < half ? half : -half)])
            let exact = Double(x[at]) * c + (within < half ? -other * s : other * s)
            #expect(
              abs(Double(rotated.elements[at]) - exact) <= Tolerance.gamma(3)
                * (abs(Double(x[at])) + abs(other)))
          }
        }
      }
    }
  }

  @Test(arguments: InstructionSet.supported)
  func causalSoftmaxAndItsGradient(_ set: InstructionSet) {
    for (seed, length) in [1, 2, 15, 16, 17, 33, 64, 70].enumerated() {
      var generator = SeededGenerator(seed: UInt64(300 + seed))
      let width = (length + 15) / 16 * 16
      let size: Float = generator.pick([1, 30, 1e4])
      let scale: Float = 0.125
      let first = length / 2
      let rows = length - first
      let s = (0..<rows * width).map { _ in generator.normal() * size }
      let dp = (0..<rows * width).map { _ in generator.normal() }
      let (p, ds) = (Fenced(s), Fenced(dp))
      unsafe moe_causal_softmax(set.machine, p.base, Int64(rows), Int64(first), Int64(width), scale)
      unsafe moe_causal_softmax_backward(
        set.machine, p.base, ds.base, Int64(rows), Int64(first), Int64(width), scale)
      #expect(p.fencesIntact && ds.fencesIntact)
      for row in 0..<rows {
        let last = first + row
        let scores = (0...last).map { Double(s[row * width + $0] * scale) }
        let most = scores.max()!
        let shares = scores.map { ($0 - most).exponential }
        let total = shares.reduce(0, +)
        for column in 0..<width {
          let actual = Double(p.elements[row * width + column])
          let exact = column <= last ? shares[column] / total : 0
          // e^x within 3 roundings of an argument that was rounded once, a sum and a quotient.
          let argument = column <= last ? abs(scores[column] - most) : 0
          let bound = exact * (Tolerance.gamma(length + 8) + argument * 0x1p-23) + 0x1p-126
          #expect(abs(actual - exact) <= bound, "\(set) \(length) [\(row), \(column)]")
        }
        // The gradient is compared with that of the kernel's own probabilities.
        let own = (0...last).map { Double(p.elements[row * width + $0]) }
        let terms = own.indices.map { own[$0] * Double(dp[row * width + $0]) }
        let (mean, sizeOfTerms) = (terms.reduce(0, +), terms.reduce(0) { $0 + abs($1) })
        for column in 0..<width {
          let at = row * width + column
          let exact = column <= last ? own[column] * (Double(dp[at]) - mean) * Double(scale) : 0
          let weight = column <= last ? own[column] : 0
          let bound =
            Tolerance.gamma(length + 6) * weight * (abs(Double(dp[at])) + sizeOfTerms) + 0x1p-126
          #expect(abs(Double(ds.elements[at]) - exact) <= bound)
        }
      }
    }
  }

  @Test(arguments: InstructionSet.supported)
  func crossEntropy(_ set: InstructionSet) {
    for (seed, size) in [1, 1, 20, 1e4].enumerated() {
      var generator = SeededGenerator(seed: UInt64(400 + seed))
      let (rows, width) = ([33, 1, 70, 0][seed], [256, 16, 48, 256][seed])
      let scale: Float = 0.25
      let logits = (0..<rows * width).map { _ in generator.normal() * Float(size) }
      let targets = (0..<rows).map { _ in UInt8(generator.next() % UInt64(width)) }
      var results: [[[UInt32]]] = []
      for threads in threadCounts {
        let (gradient, target) = (Fenced(logits), Fenced(targets))
        let losses = Fenced<Float>(count: rows)
        unsafe moe_cross_entropy(
          set.threads(threads), gradient.base, target.base, Int64(rows), Int64(width), scale, losses.base)
        #expect(gradient.fencesIntact && losses.fencesIntact)
        results.append([bits(gradient.elements), bits(losses.elements)])
        guard threads == 1 else { continue }
        for row in 0..<rows {
          let values = logits[row * width..<(row + 1) * width].map(Double.init)
          let most = values.max()!
          let shares = values.map { ($0 - most).exponential }
          let total = shares.reduce(0, +)
          let own = values[Int(targets[row])]
          let exact = most + total.logarithm - own
          #expect(
            abs(Double(losses.elements[row]) - exact)
              <= Tolerance.gamma(width + 8) + 0x1p-22 * (abs(most) + abs(own)))
          for column in 0..<width {
            let share = shares[column] / total
            let expected = Double(scale) * (share - (column == Int(targets[row]) ? 1 : 0))
            let bound =
              share * (Tolerance.gamma(width + 8) + abs(values[column] - most) * 0x1p-23) + 0x1p-24
            #expect(abs(Double(gradient.elements[row * width + column]) - expected) <= bound)
          }
        }
      }
      #expect(results.allSatisfy { $0 == results[0] })
    }
  }
}
