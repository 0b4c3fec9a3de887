internal import ExpertParallel
internal import MoE

/// The exchanges between ranks in a pass of a model. With one rank there are none.
extension LanguageModel {
  /// Whether the ranks add the gradients of the parameters that all of them hold one rank after another, during the
  /// pass.
  var isSummedInOrder: Bool { ranks?.gradientSum == .exact }

  /// Calls `add`, which adds the gradients of this rank's tokens to `memories`. With exact sums the ranks do this one
  /// after another, and ``completeSums()`` brings the result to all of them.
  func sumOverRanks(_ memories: [Memory], of part: Range<Int>, _ add: () throws -> Void) throws {
    guard let ranks, isSummedInOrder else { return try add() }
    openSums.append(try ranks.sum(memories, of: part, step: "the gradients of the backward pass", add))
  }

  /// Completes the sums that ``sumOverRanks(_:of:_:)`` began.
  func completeSums() throws {
    let sums = openSums
    openSums = []
    for complete in sums { try complete() }
  }

  /// Prepares a batch whose gradients are all-reduced: only the first rank keeps the sums of earlier batches, so that
  /// they count once.
  func prepareReduction() {
    guard let ranks, ranks.gradientSum == .reduced, !ranks.isFirst else { return }
    for parameter in sharedParameters { parameter.resetGradient() }
  }

  /// Adds the gradients of a batch over all ranks, unless the ranks added them during the pass.
  func reduceGradients() throws {
    guard let ranks, ranks.gradientSum == .reduced else { return }
    for parameter in sharedParameters {
      let memory = parameter.gradient
      let buffer = unsafe MessageBuffer(
        UnsafeMutableRawBufferPointer(start: memory.base, count: memory.byteCount), of: memory)
      try ranks.communicator.startAllReduce(
        buffer, of: Float.self, count: parameter.count, .sum, during: "the gradients of \(parameter.name)"
      ).wait()
    }
  }

  /// The parameters whose gradients are not summed over ranks by a spread layer.
  private var sharedParameters: [Parameter] {
    let spread = layers.filter(\.feedForward.layer.isSpread).flatMap(\.feedForward.parameters)
    return parameters.filter { parameter in !spread.contains { $0 === parameter } }
  }

  /// Returns the losses of all tokens of a part of the batch. The pass has the losses of this rank's tokens.
  func losses(_ pass: Pass, of part: Range<Int>) throws -> [Float] {
    let own = unsafe Array(UnsafeBufferPointer(start: pass.losses.floats, count: pass.tokenCount))
    return try ranks?.gather(own, of: part, length: pass.length, step: "the losses") ?? own
  }

  /// Returns the sums of `counts` over all ranks.
  func overRanks(_ counts: [Int]) throws -> [Int] {
    try ranks?.communicator.allReduce(counts, .sum, during: "the counts of choices") ?? counts
  }

  /// Returns where, over all ranks, the first number that is not finite is.
  func firstNonFinite(_ pass: Pass, upTo last: Int) throws -> String {
    let found = pass.firstNonFinite(upTo: last)
    return try ranks?.first(found, step: "the search for NaN") ?? found.text
  }
}
