/// M rows of tokens in ragged groups, one group for each network of a set.
package struct RowGroups {
  /// `[groups + 1]`: the first row of each group, followed by M.
  package let offsets: MemoryView<Int64>
  /// `[M]`: the token of each row; nil if row m is token m.
  package let tokens: MemoryView<Int32>?
  /// The number of rows, M.
  package let rowCount: Int

  package var groupCount: Int { offsets.count - 1 }

  package init(offsets: MemoryView<Int64>, tokens: MemoryView<Int32>?, rowCount: Int) {
    self.offsets = offsets
    self.tokens = tokens
    self.rowCount = rowCount
  }

  /// Makes one group of all tokens in their order.
  init(allOf tokenCount: Int, in scratch: inout Scratch) throws(MoEError) {
    let offsets = try scratch.reserve(2, of: Int64.self)
    offsets[0] = 0
    offsets[1] = Int64(tokenCount)
    self.init(offsets: offsets, tokens: nil, rowCount: tokenCount)
  }
}

/// The row of each choice of T tokens among M rows.
package struct ChoiceRows {
  /// `[T, K]`: the row of each choice; −1 if the choice was dropped or its token is masked.
  package let rows: MemoryView<Int32>
  /// `[T, K]`: a choice's position among those of its expert and scope; −1 if the choice was dropped or its token is
  /// masked.
  package let slots: MemoryView<Int32>
  /// `[E]`: the number of dropped choices of each expert.
  package let dropped: MemoryView<Int64>
  /// The number of rows, M.
  package let rowCount: Int
  /// The largest number of rows per expert in one scope; nil if nothing is dropped.
  package let capacity: Int?

  package init(
    rows: MemoryView<Int32>, slots: MemoryView<Int32>, dropped: MemoryView<Int64>, rowCount: Int,
    capacity: Int?
  ) {
    self.rows = rows
    self.slots = slots
    self.dropped = dropped
    self.rowCount = rowCount
    self.capacity = capacity
  }
}

/// The permutation of a batch: its kept choices ordered by expert.
package struct RowOrder {
  /// A group of rows for each expert.
  let groups: RowGroups
  /// `[M]`: the weight of each row's choice.
  let weights: MemoryView<Float>
  /// The row of each choice.
  let choices: ChoiceRows
}
