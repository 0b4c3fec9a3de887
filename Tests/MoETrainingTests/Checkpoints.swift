import ExpertParallel
import Foundation
import MoE
import MoECheckpoints
import MoETraining
import Synchronization
import Testing

/// The parts of a small model that ranks hold: shared matrices, and experts on the ranks of their placement.
final class HeldMatrices {
  private(set) var matrices: [String: Matrix]

  /// Names and shapes of what is held everywhere.
  static let shared: [(name: String, shape: [Int])] = [
    ("embedding", [64, 12]), ("layers.0.attention.q", [12, 12]), ("layers.0.norm", [1, 12]),
    ("layers.0.router", [8, 12]), ("layers.0.selection", [1, 8]), ("norm", [1, 12]),
  ].flatMap { name, shape in ["", "optimizer.m.", "optimizer.v."].map { ("\($0)\(name)", shape) } }

  /// Names and shapes of an expert.
  static func expert(_ expert: Int) -> [(name: String, shape: [Int])] {
    ["", "optimizer.m.", "optimizer.v."].flatMap { kind in
      [("up", [20, 12]), ("down", [12, 20])].map {
        ("\(kind)layers.0.experts.\(expert).\($0)", $1)
      }
    }
  }

  static func matrix(_ name: String, _ shape: [Int], seed: UInt64) -> Matrix {
    randomMatrix(shape[0], shape[1], seed: name.utf8.reduce(seed) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 })
  }

  /// Returns the part of rank `rank`, with random values; with zeros where the seed is nil.
  init(rank: Int, of placement: ExpertPlacement, seed: UInt64?) {
    let held = Self.shared + placement.experts[rank].flatMap(Self.expert)
    matrices = [:]
    for (name, shape) in held {
      matrices[name] =
        seed.map { Self.matrix(name, shape, seed: $0) } ?? Matrix(rows: shape[0], columns: shape[1])
    }
  }

  subscript(name: String) -> Matrix? {
    get { matrices[name] }
    set { matrices[name] = newValue }
  }

  var checkpoint: TrainingCheckpoint {
    TrainingCheckpoint(
      entries: matrices.sorted { $0.key < $1.key }.map { name, matrix in
        CheckpointEntry(
          name: name, shape: matrix.shape, read: { self.matrices[name]! }, write: { self.matrices[name] = $0 }
        )
      }, readsAll: true)
  }
}

/// Calls `body` with a new folder, and removes it.
func withTemporaryRun(_ body: (RunFolder) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appending(path: "moe-\(UUID())")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try body(RunFolder(folder.path))
}

extension RunFolder {
  /// Eight experts.
  static func placement(_ ranks: Int) -> ExpertPlacement { ExpertPlacement(expertCount: 8, rankCount: ranks) }

  /// Some ranks save a step, whose values its number gives.
  func save(step: Int, ranks: Int, damaged: Set<String> = []) throws {
    try LocalCommunicator.run(ranks: ranks) { communicator in
      let held = HeldMatrices(rank: communicator.rank, of: Self.placement(ranks), seed: UInt64(step))
      try checkpoints.save(
        held.checkpoint, step: step, metadata: ["step": "\(step)", "model": "small \"one\""],
        over: CheckpointRanks(ranks == 1 ? nil : communicator), damaged: damaged)
    }
  }

  /// Some ranks read the newest checkpoint and compare it with what its step gives; all say the same of it.
  func restore(ranks: Int) throws -> (step: Int, note: String?)? {
    let found = try LocalCommunicator.run(ranks: ranks) { communicator -> Restored? in
      let placement = Self.placement(ranks)
      let held = HeldMatrices(rank: communicator.rank, of: placement, seed: nil)
      let peers = CheckpointRanks(ranks == 1 ? nil : communicator)
      guard let found = try checkpoints.find(over: peers) else { return nil }
      try held.checkpoint.read(found.content, over: peers)
      let expected = HeldMatrices(rank: communicator.rank, of: placement, seed: UInt64(found.step))
      #expect(held.matrices == expected.matrices)
      #expect(found.content.metadata["model"] == "small \"one\"")
      return Restored(step: found.step, note: found.note)
    }
    #expect(Set(found).count == 1)
    return found[0].map { ($0.step, $0.note) }
  }

  /// Returns the sentence of all ranks about the newest checkpoint, which they cannot read.
  func complaint(ranks: Int) throws -> String {
    let complaints = try LocalCommunicator.run(ranks: ranks) { communicator in
      do {
        let peers = CheckpointRanks(communicator)
        let held = HeldMatrices(rank: communicator.rank, of: Self.placement(ranks), seed: nil)
        guard let found = try checkpoints.find(over: peers) else { return "none" }
        try held.checkpoint.read(found.content, over: peers)
        return "accepted"
      } catch let error as CheckpointError {
        return error.description
      }
    }
    #expect(Set(complaints).count == 1)
    return complaints[0]
  }

  var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }
}

private struct Restored: Hashable, Sendable {
  var step: Int
  var note: String?
}
