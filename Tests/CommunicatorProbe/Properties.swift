import CommunicatorProperties
import ExpertParallel
import LayerCases
import SpreadPasses

/// A line for each property with the hash of what all ranks received.
func propertyLines(_ communicator: any Communicator) throws -> [String] {
  try CommunicatorProperty.all.map { property in
    let hash = try property.check(communicator, seeds: 0..<6)
    return "\(communicator.size) ranks  \(String(hash, radix: 16))  \(property.name)"
  }
}

/// A line for each layer with the hashes of its passes, forward and backward.
func layerLines(_ communicator: any Communicator) throws -> [String] {
  try LayerCase.ofProbe.map { layerCase in
    var pass = try SpreadPass(layerCase, ranks: communicator.size)
    if layerCase.seed % 3 == 2 {
      pass.placement = try .random(
        expertCount: layerCase.expertCount, rankCount: communicator.size, seed: layerCase.seed)
    }
    return "seed \(layerCase.seed): \(try PassHashes(of: pass.rank(communicator), over: communicator))"
  }
}

/// The lines of `layerLines`, made by `MoELayer` without ranks.
func layerLinesOfOne() throws -> [String] {
  try LayerCase.ofProbe.map { layerCase in
    let one = try SpreadPass(layerCase, ranks: 1).one()
    let part = (experts: Array(0..<layerCase.expertCount), result: one)
    let hashes = try LocalCommunicator.run(ranks: 1) { try PassHashes(of: part, over: $0) }
    return "seed \(layerCase.seed): \(hashes[0])"
  }
}
