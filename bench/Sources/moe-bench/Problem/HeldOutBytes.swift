import MoERun
import MoETraining

/// How often each byte occurs in the text that a run holds out, by label.
struct HeldOutBytes {
  let labels: [String]
  /// [256][label].
  let counts: [[Int]]

  /// - Parameter run: a run's folder, whose text is read where it lay.
  /// - Throws: `TrainingError` where it cannot be read.
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
