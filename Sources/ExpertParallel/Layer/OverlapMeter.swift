/// Chooses the slices of a pass by what earlier ones took.
///
/// With an exchange of C seconds and P seconds of computation, n slices take about max(P, C) + min(P, C)/n + n·σ: all but
/// an n-th of the shorter is hidden, and each slice costs σ more. That is least at n = √(min(P, C)/σ), with sums over the
/// trips of a step. C and P are measured by a trip in one slice, in which nothing is hidden, and are proportional to its
/// tokens; σ is twice the shortest small exchange seen, as a slice travels out and back, and what trips in several slices
/// have shown to compute longer.
package final class OverlapMeter {
  /// A trip that is measured for itself.
  package enum Trip { case forward, recompute, backward }

  /// Takes the times of one trip of a rank's tokens.
  package struct Reader {
    private let meter: OverlapMeter
    private let trip: Trip
    private let tokens: Int

    package init(_ meter: OverlapMeter, _ trip: Trip, tokens: Int) {
      (self.meter, self.trip, self.tokens) = (meter, trip, tokens)
    }

    /// The trip is over, in which exchange and computation took so long.
    package func note(exchange: Duration, computation: Duration, slices: Int) {
      meter.note(trip, exchange: exchange, computation: computation, slices: slices, tokens: tokens)
    }
  }

  private struct Measurement {
    var trips = 0
    /// Seconds a token; nil before a trip in one slice.
    var perToken: (exchange: Double, computation: Double)?
    /// Seconds a further slice, the least seen; nil before a trip in several.
    var slice: Double?
  }

  private var measurements: [Trip: Measurement] = [:]
  private var smallExchange = Double.infinity
  /// The first trip finds its memory unmapped and its code cold.
  private static let warmUp = 1

  package init() {}

  /// The degree that would suit this rank.
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

  private func note(_ trip: Trip, exchange: Duration, computation: Duration, slices: Int, tokens: Int) {
    var measurement = measurements[trip] ?? Measurement()
    measurement.trips += 1
    defer { measurements[trip] = measurement }
    guard measurement.trips > Self.warmUp, tokens > 0 else { return }
    if slices == 1 {
      measurement.perToken = (exchange / .seconds(tokens), computation / .seconds(tokens))
    } else if let seconds = measurement.perToken {
      let longer = computation / .seconds(1) - seconds.computation * Double(tokens)
      measurement.slice = min(measurement.slice ?? .infinity, max(longer, 0) / Double(slices - 1))
    }
  }

  /// An exchange of a few bytes is over.
  package func noteSmallExchange(_ duration: Duration) {
    smallExchange = min(smallExchange, duration / .seconds(1))
  }
}
