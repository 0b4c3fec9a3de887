/// The hash function SHA-256 (FIPS 180-4, §5 and §6.2), fed piece by piece.
package struct SHA256: Sendable {
  private var state: [UInt32] = [
    0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19,
  ]
  /// Bytes that do not fill a block yet.
  private var rest: [UInt8] = []
  private var byteCount: UInt64 = 0

  /// The hash of nothing, so far.
  package init() {}

  /// Takes in more bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    byteCount += UInt64(bytes.count)
    var bytes = unsafe bytes
    if !rest.isEmpty {
      let head = min(64 - rest.count, bytes.count)
      unsafe rest += bytes.prefix(head)
      unsafe bytes = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(head))
      if rest.count < 64 { return }
      let block = rest
      unsafe block.withUnsafeBytes { unsafe compress($0) }
      rest.removeAll(keepingCapacity: true)
    }
    let whole = bytes.count / 64 * 64
    unsafe compress(UnsafeRawBufferPointer(rebasing: bytes.prefix(whole)))
    unsafe rest += bytes.dropFirst(whole)
  }

  /// Takes in more bytes.
  package mutating func update(_ bytes: [UInt8]) {
    unsafe bytes.withUnsafeBytes { unsafe update($0) }
  }

  /// The hash of all bytes taken in, 32 bytes.
  package func digest() -> [UInt8] {
    var last = self
    let padding = 63 - (rest.count + 8) % 64
    let bitCount = byteCount &* 8
    last.update([0x80] + [UInt8](repeating: 0, count: padding) + Self.bytes(of: bitCount))
    return last.state.flatMap(Self.bytes(of:))
  }

  /// Big-endian.
  private static func bytes(of word: some FixedWidthInteger) -> [UInt8] {
    unsafe withUnsafeBytes(of: word.bigEndian) { unsafe Array($0) }
  }

  /// Takes in whole blocks of 64 bytes.
  private mutating func compress(_ blocks: UnsafeRawBufferPointer) {
    unsafe state.withUnsafeMutableBufferPointer { state in
      unsafe Self.constants.withUnsafeBufferPointer { k in
        unsafe withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { w in
          for start in stride(from: 0, to: blocks.count, by: 64) {
            for t in 0..<16 {
              unsafe w[t] = UInt32(
                bigEndian: blocks.loadUnaligned(fromByteOffset: start + 4 * t, as: UInt32.self))
            }
            for t in 16..<64 {
              let (x, y) = unsafe (w[t - 15], w[t - 2])
              let s0 = rotate(x, 7) ^ rotate(x, 18) ^ x >> 3
              let s1 = rotate(y, 17) ^ rotate(y, 19) ^ y >> 10
              unsafe w[t] = w[t - 16] &+ s0 &+ w[t - 7] &+ s1
            }
            var (a, b, c, d) = unsafe (state[0], state[1], state[2], state[3])
            var (e, f, g, h) = unsafe (state[4], state[5], state[6], state[7])
            for t in 0..<64 {
              let s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
              let one = unsafe h &+ s1 &+ (e & f ^ ~e & g) &+ k[t] &+ w[t]
              let s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)
              let two = s0 &+ (a & b ^ a & c ^ b & c)
              (h, g, f, e, d, c, b, a) = (g, f, e, d &+ one, c, b, a, one &+ two)
            }
            unsafe state[0] &+= a
            unsafe state[1] &+= b
            unsafe state[2] &+= c
            unsafe state[3] &+= d
            unsafe state[4] &+= e
            unsafe state[5] &+= f
            unsafe state[6] &+= g
            unsafe state[7] &+= h
          }
        }
      }
    }
  }

  /// The fractional parts of the cube roots of the first 64 primes, 32 bits of each.
  private static let constants: [UInt32] = {
    let primes = (2...311).filter { n in (2..<n).allSatisfy { n % $0 != 0 || $0 * $0 > n } }
    return primes.map { prime in
      // The largest integer whose cube is at most the prime times 2^96.
      let target = UInt128(prime) << 96
      var root: UInt64 = 0
      for bit in stride(from: 34 as UInt64, through: 0, by: -1) {
        let next = UInt128(root | 1 << bit)
        if next * next * next <= target { root |= 1 << bit }
      }
      return UInt32(truncatingIfNeeded: root)
    }
  }()
}

@inline(__always) private func rotate(_ word: UInt32, _ count: UInt32) -> UInt32 {
  word &>> count | word &<< (32 &- count)
}
