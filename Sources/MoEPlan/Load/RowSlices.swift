/// A rank's rows in slices of about equal size. A cut is moved between two experts if that is near, as in
/// `ExpertParallelLayer`. There it lies at a multiple of 16 rows otherwise; here rows are expectations and no integers,
/// so it lies where the slices are equal.
package struct RowSlices {
  /// `[n][experts of the rank]`: the share of an expert's rows that lies in the slice.
  package let shares: [[Double]]

  /// - Parameters:
  ///   - rows: the rows of each expert of the rank.
  ///   - count: n, the number of slices.
  package init(_ rows: [Double], count: Int) {
    let total = rows.reduce(0, +)
    var starts = [0.0]
    for count in rows { starts.append(starts.last! + count) }
    var cuts = [0.0]
    let near = total / Double(count) / 4
    var expert = 0
    for slice in 1..<max(count, 1) {
      let ideal = Double(slice) * total / Double(count)
      while expert + 2 < starts.count, starts[expert + 1] <= ideal { expert += 1 }
      let (first, end) = (starts[expert], starts[expert + 1])
      let boundary = ideal - first <= end - ideal ? first : end
      cuts.append(max(abs(boundary - ideal) <= near ? boundary : ideal, cuts.last!))
    }
    cuts.append(total)
    shares = zip(cuts, cuts.dropFirst()).enumerated().map { slice, cut in
      rows.indices.map { index in
        // An expert without rows belongs to the first slice, so that its shares add up to 1.
        if rows[index] <= 0 { return slice == 0 ? 1 : 0 }
        let overlap = min(cut.1, starts[index + 1]) - max(cut.0, starts[index])
        return max(overlap, 0) / rows[index]
      }
    }
  }
}
