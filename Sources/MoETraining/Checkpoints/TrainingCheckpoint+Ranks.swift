internal import ExpertParallel
internal import Foundation
internal import MoE

/// A matrix on its way to the rank that writes.
private struct Label: Codable {
  var name: String
  var shape: [Int]
}

extension TrainingCheckpoint {
  /// The names of all ranks' matrices. A collective.
  func names(_ ranks: Ranks) throws -> [String] {
    try labels(ranks).joined().map(\.name)
  }

  /// The checkpoint of the whole model on the first rank, which takes as much memory again; on the others nothing. A
  /// collective.
  ///
  /// - Throws: ``TrainingError/notFinite(what:)`` naming the first matrix with a NaN or infinity, on all ranks.
  func gathered(over ranks: Ranks) throws -> TrainingCheckpoint {
    let labels = try labels(ranks)
    let rank = ranks.communicator.rank
    // Of what several ranks hold, the lowest sends.
    var owners: [String: Int] = [:]
    for (other, list) in labels.enumerated().reversed() { for label in list { owners[label.name] = other } }
    var values: [Float] = []
    var complaint: (place: Int, text: String)?
    for (place, entry) in entries.enumerated() where owners[entry.name] == rank {
      let matrix = entry.read().elements
      if complaint == nil, !matrix.allSatisfy(\.isFinite) { complaint = (place, "a value of \(entry.name)") }
      if rank > 0 { values += matrix }
    }
    if let what = try ranks.first(complaint, step: "the checkpoint") {
      throw TrainingError.notFinite(what: what)
    }
    var counts = Array(repeating: 0, count: ranks.communicator.size)
    counts[0] = values.count
    var rest = try ranks.communicator.allToAll(values, counts: counts, step: "the checkpoint").rows[...]
    guard ranks.isFirst else { return TrainingCheckpoint([]) }
    var all = entries
    for (other, list) in labels.enumerated().dropFirst() {
      for label in list where owners[label.name] == other {
        let elements = Array(rest.prefix(label.shape[0] * label.shape[1]))
        rest = rest.dropFirst(elements.count)
        let matrix = try Matrix(rows: label.shape[0], columns: label.shape[1], elements: elements)
        all.append(Entry(name: label.name, shape: label.shape, read: { matrix }, write: { _ in }))
      }
    }
    return TrainingCheckpoint(all)
  }

  private func labels(_ ranks: Ranks) throws -> [[Label]] {
    let own = try JSONEncoder().encode(entries.map { Label(name: $0.name, shape: $0.shape) })
    return try ranks.communicator.allGatherLists(Array(own), step: "the checkpoint").map {
      try JSONDecoder().decode([Label].self, from: Data($0))
    }
  }
}
