/// Returns the product of sizes that were read or given.
///
/// - Parameters:
///   - factors: the sizes, each at least 0.
///   - limit: the largest product accepted.
///   - complaint: the sentence of the error, to which the limit is added.
/// - Throws: ``MoEError/invalidConfiguration(_:)`` where the product is larger than `limit`, also where it overflows.
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
