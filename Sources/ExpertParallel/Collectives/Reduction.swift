/// The rule by which the values of all ranks become one value.
public enum Reduction: Sendable {
  /// ((v₀ + v₁) + v₂) + … in order of rank, rounded to the element's type after each addition; integers wrap around.
  case sum
  /// The greatest value; NaN if a rank has NaN. Of equal values, such as −0 and +0, the value of the lowest rank.
  case maximum
}

/// A number that ranks can reduce: `Int64`, `Int`, `Float` or `Double`.
public protocol Reducible: BitwiseCopyable, Sendable {
  /// Adds the value of the next rank to the sum of the ranks before it.
  static func sum(_ before: Self, _ next: Self) -> Self
  /// Returns the maximum of the ranks before and the value of the next rank.
  static func maximum(_ before: Self, of next: Self) -> Self
}

extension Int64: Reducible {
  /// Wraps around.
  @inlinable public static func sum(_ before: Int64, _ next: Int64) -> Int64 { before &+ next }
  /// The greater.
  @inlinable public static func maximum(_ before: Int64, of next: Int64) -> Int64 { Swift.max(before, next) }
}

extension Int: Reducible {
  /// Wraps around.
  @inlinable public static func sum(_ before: Int, _ next: Int) -> Int { before &+ next }
  /// The greater.
  @inlinable public static func maximum(_ before: Int, of next: Int) -> Int { Swift.max(before, next) }
}

extension Float: Reducible {
  /// Rounded to `Float`.
  @inlinable public static func sum(_ before: Float, _ next: Float) -> Float { before + next }
  /// The greater, or NaN.
  @inlinable public static func maximum(_ before: Float, of next: Float) -> Float {
    next > before || (next.isNaN && !before.isNaN) ? next : before
  }
}

extension Double: Reducible {
  /// Rounded to `Double`.
  @inlinable public static func sum(_ before: Double, _ next: Double) -> Double { before + next }
  /// The greater, or NaN.
  @inlinable public static func maximum(_ before: Double, of next: Double) -> Double {
    next > before || (next.isNaN && !before.isNaN) ? next : before
  }
}

/// Reduces the ranks' values `[rows, count]` into `result`, from the element `first` on.
func reduce<Element: Reducible>(
  _ rows: MessageBuffer, rows rowCount: Int, count: Int, _ reduction: Reduction, into result: MessageBuffer,
  at first: Int, as type: Element.Type
) {
  let values = unsafe rows.base.assumingMemoryBound(to: type)
  let result = unsafe result.base.assumingMemoryBound(to: type) + first
  // Blocks of elements keep the result of a block in the cache while the ranks' values are added to it.
  for start in stride(from: 0, to: count, by: 4096) {
    let block = start..<min(start + 4096, count)
    for index in block { unsafe result[index] = values[index] }
    for row in 1..<max(rowCount, 1) {
      let next = unsafe values + row * count
      switch reduction {
      case .sum: for index in block { unsafe result[index] = .sum(result[index], next[index]) }
      case .maximum: for index in block { unsafe result[index] = .maximum(result[index], of: next[index]) }
      }
    }
  }
}
