/// An error of a run: in its text, its folder or its numbers.
public enum TrainingError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A text or folder that cannot be used: its path, and the complaint.
  case text(path: String, String)
  /// A folder of a run that cannot be used: its path, and the complaint.
  case run(path: String, String)
  /// A NaN or infinity, and where it is.
  case notFinite(what: String)
  /// A run with a number that is not finite: the step, the place of the first such number, and the step of the last
  /// good checkpoint.
  case diverged(step: Int, String, checkpoint: Int)
  /// A step that ranks could not finish together: the step, why, and the step of the last good checkpoint.
  case interrupted(step: Int, String, checkpoint: Int)

  /// Whether the error is about a NaN or infinity and does not have its step yet.
  var isOfNumbers: Bool { if case .notFinite = self { true } else { false } }

  /// One plain sentence without a full stop.
  public var description: String {
    switch self {
    case .text(let path, let complaint), .run(let path, let complaint): "\(path): \(complaint)"
    case .notFinite(let what): "\(what) is NaN or infinite"
    case .interrupted(let step, let complaint, let checkpoint):
      "training stopped at step \(step): \(complaint); the last good checkpoint is that of step \(checkpoint)"
    case .diverged(let step, let complaint, let checkpoint):
      "training diverged at step \(step): \(complaint); the last good checkpoint is that of step \(checkpoint)"
    }
  }
}
