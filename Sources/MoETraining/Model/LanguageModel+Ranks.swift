internal import ExpertParallel
internal import MoE

/// What a pass of a model asks of its ranks; with one there is nothing to ask.
extension LanguageModel {
  /// Whether gradients of what all ranks hold are added up rank after rank, beside the pass.
  var isSummedInOrder: Bool { ranks?.gradientSum == .exact }

  /// Lets the ranks add gradients of a part of the batch, one after another; ``completeSums()`` gives all the result.
  func sumOverRanks(_ memories: [Memory], of part: Range<Int>, _ add: () throws -> Void) throws {
    guard let ranks, isSummedInOrder else { return try add() }
    openSums.append(try ranks.sum(memories, of: part, step: "the gradients of the backward pass", add))
  }

  /// Completes what ``sumOverRanks(_:of:_:)`` began.
  func completeSums() throws {
    let sums = openSums
    openSums = []
    for complete in sums { try complete() }
  }

  /// Before a batch whose gradients are reduced: what earlier batches left is kept by one rank.
  func prepareReduction() {
    guard let ranks, ranks.gradientSum == .reduced, !ranks.isFirst else { return }
    for parameter in sharedParameters { parameter.resetGradient() }
  }

  /// Adds up what the ranks have of the gradients of a batch, where this has not been done beside the pass.
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

  /// The parameters whose gradients no layer adds up over ranks itself.
  private var sharedParameters: [Parameter] {
    let spread = layers.filter(\.feedForward.layer.isSpread).flatMap(\.feedForward.parameters)
    return parameters.filter { parameter in !spread.contains { $0 === parameter } }
  }

  /// The losses of all tokens of a part of the batch, of which this rank's are in the pass.
  func losses(_ pass: Pass, of part: Range<Int>) throws -> [Float] {
    let own = unsafe Array(UnsafeBufferPointer(start: pass.losses.floats, count: pass.tokenCount))
    return try ranks?.gather(own, of: part, length: pass.length, step: "the losses") ?? own
  }

  /// Sums of counts over all ranks.
  func overRanks(_ counts: [Int]) throws -> [Int] {
    try ranks?.communicator.allReduce(counts, .sum, during: "the counts of choices") ?? counts
  }

  /// Where the first number that is not finite is, over all ranks.
  func firstNonFinite(_ pass: Pass, upTo last: Int) throws -> String {
    let found = pass.firstNonFinite(upTo: last)
    return try ranks?.first(found, step: "the search for NaN") ?? found.text
  }
}
