internal import Foundation

/// How the learning rate goes from step to step: up in a straight line for the warm-up, then by a rule.
public struct LearningRateSchedule: Codable, Sendable, Equatable {
  /// What follows the warm-up.
  public enum Shape: String, Codable, Sendable, CaseIterable {
    /// The peak to the end.
    case constant
    /// A straight line to the floor at the last step.
    case linear
    /// Half a cosine to the floor at the last step (Loshchilov and Hutter 2017).
    case cosine
    /// peak·√(w/t) with w the warm-up, or 1 where there is none (Vaswani et al. 2017 §5.3).
    case inverseSquareRoot = "inverse-sqrt"
  }

  /// What follows the warm-up.
  public var shape: Shape
  /// The highest rate.
  public var peak: Double
  /// The steps that lead up to it.
  public var warmupSteps: Int
  /// What linear and cosine end at, as a share of the peak.
  public var floor: Double

  /// A schedule.
  public init(_ shape: Shape, peak: Double, warmupSteps: Int, floor: Double = 0.1) {
    self.shape = shape
    self.peak = peak
    self.warmupSteps = warmupSteps
    self.floor = floor
  }

  /// The learning rate of step `step`, from 1, of `steps`.
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
