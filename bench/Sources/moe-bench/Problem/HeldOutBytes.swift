import MoERun
import MoETraining

/// The number of occurrences of each byte in the held-out text of a run, by label.
struct HeldOutBytes {
  let labels: [String]
  /// [256][label]: the number of occurrences.
  let counts: [[Int]]

  /// - Parameter run: the folder of a run. Its text is read from the path that the run used.
  /// - Throws: `TrainingError` if the text cannot be read.
  init(run: String) throws {
    let description = try RunFolder(run).description()
    let length = description.model.contextLength
    let heldOut = HeldOutSequences(try TextCorpus(description.texts), sequenceLength: length)
    labels = heldOut.labels
    var counts = Array(repeating: Array(repeating: 0, count: labels.count), count: 256)
    for (index, byte) in heldOut.inputs.enumerated() {
      counts[Int(byte)][heldOut.labelOfSequence[index / length]] += 1
    }
    self.counts = counts
  }
}
