/// Chooses the number of slices of a pass by the times that earlier passes took.
///
/// With an exchange of C seconds and P seconds of computation, n slices take about max(P, C) + min(P, C)/n + n·σ: all
/// but an n-th of the shorter time is hidden, and each slice adds σ. The minimum is at n = √(min(P, C)/σ), with sums
/// over the passes of a training step. C and P are measured in a pass of one slice, which hides nothing, and are
/// assumed to be proportional to its tokens. σ has two parts: twice the shortest small exchange seen, because a slice
/// travels out and back, and the additional computing time of passes in several slices.
package final class OverlapMeter {
  /// A kind of pass. Each kind is measured separately.
  package enum Pass { case forward, recompute, backward }

  /// Takes the times of one pass of a rank's tokens.
  package struct Reader {
    private let meter: OverlapMeter
    private let pass: Pass
    private let tokens: Int

    package init(_ meter: OverlapMeter, _ pass: Pass, tokens: Int) {
      (self.meter, self.pass, self.tokens) = (meter, pass, tokens)
    }

    /// Notes the times of a pass that is over.
    package func note(exchange: Duration, computation: Duration, slices: Int) {
      meter.note(pass, exchange: exchange, computation: computation, slices: slices, tokens: tokens)
    }
  }

  private struct Measurement {
    var passes = 0
    /// Seconds per token; nil before a pass in one slice.
    var perToken: (exchange: Double, computation: Double)?
    /// The fewest seconds seen per further slice; nil before a pass in several slices.
    var slice: Double?
  }

  private var measurements: [Pass: Measurement] = [:]
  private var smallExchange = Double.infinity
  /// The number of passes that are not measured. The first pass must map its memory and load its code.
  private static let warmUp = 1

  package init() {}

  /// Returns the number of slices that suits a pass of this rank.
  package func proposal(tokens: Int) -> Int {
    guard smallExchange < .infinity else { return 1 }
    var (shorter, cost) = (0.0, 0.0)
    for measurement in measurements.values {
      guard let seconds = measurement.perToken else { return 1 }
      shorter += min(seconds.exchange, seconds.computation) * Double(tokens)
      cost += 2 * smallExchange + (measurement.slice ?? 0)
    }
    guard cost > 0 else { return 1 }
    let ideal = (shorter / cost).squareRoot()
    var slices = 1
    // The next power of two, unless the one before is nearer.
    while slices < OverlapDegree.limit, Double(slices) * 2.0.squareRoot() < ideal { slices *= 2 }
    return slices
  }

  private func note(_ pass: Pass, exchange: Duration, computation: Duration, slices: Int, tokens: Int) {
    var measurement = measurements[pass] ?? Measurement()
    measurement.passes += 1
    defer { measurements[pass] = measurement }
    guard measurement.passes > Self.warmUp, tokens > 0 else { return }
    if slices == 1 {
      measurement.perToken = (exchange / .seconds(tokens), computation / .seconds(tokens))
    } else if let seconds = measurement.perToken {
      let longer = computation / .seconds(1) - seconds.computation * Double(tokens)
      measurement.slice = min(measurement.slice ?? .infinity, max(longer, 0) / Double(slices - 1))
    }
  }

  /// Notes the time of an exchange of a few bytes.
  package func noteSmallExchange(_ duration: Duration) {
    smallExchange = min(smallExchange, duration / .seconds(1))
  }
}
