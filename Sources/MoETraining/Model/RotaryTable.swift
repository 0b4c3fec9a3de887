internal import Glibc
internal import MoE

/// Cosines and sines of the rotary angles, position·base^(−2i/dh), as [positions, dh/2].
struct RotaryTable {
  let cosines: Memory
  let sines: Memory

  init(positions: Int, headSize: Int, base: Double) throws(MoEError) {
    let half = headSize / 2
    cosines = try Memory(floats: positions * half)
    sines = try Memory(floats: positions * half)
    for position in 0..<positions {
      for index in 0..<half {
        let angle = Double(position) * pow(base, -2 * Double(index) / Double(headSize))
        unsafe cosines.floats[position * half + index] = Float(cos(angle))
        unsafe sines.floats[position * half + index] = Float(sin(angle))
      }
    }
  }
}
