/// Returns the product of sizes that come from a file or from the caller.
///
/// - Parameters:
///   - factors: the sizes, each at least 0.
///   - limit: the largest product accepted.
///   - complaint: the error message, to which the limit is appended.
/// - Throws: ``MoEError/invalidConfiguration(_:)`` if the product is larger than `limit` or overflows.
package func product(
  of factors: [Int], atMost limit: Int, _ complaint: @autoclosure () -> String
) throws(MoEError) -> Int {
  var product = 1
  for factor in factors {
    let (next, overflow) = product.multipliedReportingOverflow(by: factor)
    if overflow || next > limit {
      throw .invalidConfiguration("\(complaint()), expected at most \(limit)")
    }
    product = next
  }
  return product
}
