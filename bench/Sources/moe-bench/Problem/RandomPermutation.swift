import CKernels
import MoE

/// Random choices of K distinct experts for each of T tokens, and the rows into which they are ordered.
final class RandomPermutation {
  let tokenCount: Int
  let expertCount: Int
  let expertsPerToken: Int
  /// [T, K].
  let expertIDs: Buffer<Int32>
  let expertWeights: Buffer<Float>
  /// [E+1].
  let offsets: Buffer<Int64>
  /// [T·K].
  let rowToken: Buffer<Int32>
  let rowWeight: Buffer<Float>
  /// [T, K].
  let choiceRow: Buffer<Int32>
  let slots: Buffer<Int32>
  private let scratch: Buffer<UInt8>

  var choices: Int { tokenCount * expertsPerToken }

  init(tokenCount: Int, expertCount: Int, expertsPerToken: Int) throws {
    self.tokenCount = tokenCount
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
    let choices = tokenCount * expertsPerToken
    expertIDs = try Buffer(choices)
    expertWeights = try Buffer(choices)
    offsets = try Buffer(expertCount + 1)
    rowToken = try Buffer(choices)
    rowWeight = try Buffer(choices)
    choiceRow = try Buffer(choices)
    slots = try Buffer(choices)
    scratch = try Buffer(
      moe_permute_scratch_bytes(
        Int64(tokenCount), Int64(expertsPerToken), Int64(expertCount), Int64(tokenCount)))
    var generator = SeededGenerator(seed: 11)
    var experts = (0..<Int32(expertCount)).map { $0 }
    for token in 0..<tokenCount {
      for choice in 0..<expertsPerToken {
        experts.swapAt(choice, Int.random(in: choice..<expertCount, using: &generator))
        expertIDs[token * expertsPerToken + choice] = experts[choice]
        expertWeights[token * expertsPerToken + choice] = generator.uniform()
      }
    }
  }

  /// Orders the choices by expert and drops none.
  func permute(_ execution: moe_execution) {
    var written = moe_permutation()
    written.offsets = offsets.base
    written.row_token = rowToken.base
    written.row_weight = rowWeight.base
    written.choice_row = choiceRow.base
    written.slots = slots.base
    _ = moe_permute(
      execution, expertIDs.base, expertWeights.base, Int64(tokenCount), Int64(expertsPerToken),
      Int64(expertCount),
      moe_capacity_rule(capacity: -1, priority: MOE_TOKEN_THEN_CHOICE, scope: Int64(tokenCount), keys: nil),
      &written,
      scratch.base)
  }

  /// Returns the number of choices whose row differs from the definition: rows by expert, then token, then choice.
  func misplacedChoices() -> Int {
    var rows = Array(repeating: 0, count: expertCount)
    for choice in 0..<choices where Int(expertIDs[choice]) + 1 < expertCount {
      rows[Int(expertIDs[choice]) + 1] += 1
    }
    for expert in 1..<max(expertCount, 1) { rows[expert] += rows[expert - 1] }
    var misplaced = (0..<expertCount).count { Int(offsets[$0]) != rows[$0] }
    for choice in 0..<choices {
      let row = rows[Int(expertIDs[choice])]
      rows[Int(expertIDs[choice])] += 1
      let isRight =
        Int(choiceRow[choice]) == row && Int(rowToken[row]) == choice / expertsPerToken
        && rowWeight[row] == expertWeights[choice]
      if !isRight { misplaced += 1 }
    }
    return misplaced
  }
}
