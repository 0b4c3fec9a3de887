internal import Foundation

/// The learning rate of each step: it rises linearly during the warm-up, then follows a rule.
public struct LearningRateSchedule: Codable, Sendable, Equatable {
  /// The rule after the warm-up.
  public enum Shape: String, Codable, Sendable, CaseIterable {
    /// The peak, to the last step.
    case constant
    /// A linear fall to the floor at the last step.
    case linear
    /// A fall along half a cosine to the floor at the last step (Loshchilov and Hutter 2017).
    case cosine
    /// peak·√(w/t) with w the number of warm-up steps, or 1 without a warm-up (Vaswani et al. 2017 §5.3).
    case inverseSquareRoot = "inverse-sqrt"
  }

  /// The rule after the warm-up.
  public var shape: Shape
  /// The highest rate.
  public var peak: Double
  /// The number of steps in which the rate rises to the peak.
  public var warmupSteps: Int
  /// The rate at the last step of linear and cosine, as a share of the peak.
  public var floor: Double

  /// Makes a schedule.
  public init(_ shape: Shape, peak: Double, warmupSteps: Int, floor: Double = 0.1) {
    self.shape = shape
    self.peak = peak
    self.warmupSteps = warmupSteps
    self.floor = floor
  }

  /// Returns the learning rate of step `step`, from 1 to `steps`.
  public func rate(at step: Int, of steps: Int) -> Double {
    if step <= warmupSteps { return peak * Double(step) / Double(warmupSteps) }
    let progress =
      steps > warmupSteps ? min(1, Double(step - warmupSteps) / Double(steps - warmupSteps)) : 1
    switch shape {
    case .constant: return peak
    case .linear: return peak * (1 - (1 - floor) * progress)
    case .cosine: return peak * (floor + (1 - floor) * (1 + cos(.pi * progress)) / 2)
    case .inverseSquareRoot:
      return peak * (Double(max(warmupSteps, 1)) / Double(step)).squareRoot()
    }
  }
}
