/// Chooses the slices of a pass by what earlier ones took.
///
/// With an exchange of C seconds and P seconds of computation, n slices of which each costs σ more take about
/// max(P, C) + min(P, C)/n + n·σ: all but an n-th of the shorter is hidden. That is least at n = √(min(P, C)/σ). C and P
/// are measured by a pass in one slice, in which nothing is hidden, and are proportional to its tokens; σ is taken as
/// twice the time of the shortest small exchange seen, which a slice needs out and back.
final class OverlapMeter {
  /// What a trip took.
  struct Times {
    var exchange = Duration.zero
    var computation = Duration.zero
  }

  /// Seconds a token; nil before a pass in one slice has been measured.
  private var perToken: (exchange: Double, computation: Double)?
  private var smallExchange = Double.infinity
  private var passes = 0
  /// The first pass finds its memory unmapped and its code cold.
  private static let warmUp = 1

  /// The degree that would suit this rank.
  func proposal(tokens: Int) -> Int {
    guard let perToken, smallExchange < .infinity else { return 1 }
    let shorter = min(perToken.exchange, perToken.computation) * Double(tokens)
    let ideal = (shorter / (2 * smallExchange)).squareRoot()
    var slices = 1
    // The next power of two, unless the one before is nearer.
    while slices < OverlapDegree.limit, Double(slices) * 2.0.squareRoot() < ideal { slices *= 2 }
    return slices
  }

  /// A trip in so many slices is over.
  func note(_ times: Times, slices: Int, tokens: Int) {
    passes += 1
    guard passes > Self.warmUp, slices == 1, tokens > 0 else { return }
    perToken = (times.exchange / .seconds(tokens), times.computation / .seconds(tokens))
  }

  /// An exchange of a few bytes is over.
  func noteSmallExchange(_ duration: Duration) { smallExchange = min(smallExchange, duration / .seconds(1)) }
}
