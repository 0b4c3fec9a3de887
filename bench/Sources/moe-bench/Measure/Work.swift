/// The least work of a call: the FLOPs of its definition, and each byte that it must read or write, counted once.
struct Work {
  var flops = 0.0
  var bytes = 0.0
  /// Whether most of those bytes are read and written back, which memory does at a different rate from reading alone.
  var updates = false

  /// Returns the fewest seconds that the work takes at the measured limits, and the limit that binds (the roofline of
  /// Williams, Waterman and Patterson, 2009). Work that stays in cache may beat the `read` limit, which is the
  /// memory's.
  func bound(
    flopsPerSecond: Double, readPerSecond: Double, updatePerSecond: Double
  ) -> (seconds: Double, by: Bound) {
    let compute = flops / flopsPerSecond
    let memory = bytes / (updates ? updatePerSecond : readPerSecond)
    return compute > memory ? (compute, .fma) : (memory, updates ? .update : .read)
  }
}

/// The limit that binds.
enum Bound: String, Encodable {
  /// Multiply-adds from registers.
  case fma
  /// Bytes read from memory.
  case read
  /// Bytes read from memory and written back.
  case update
}
