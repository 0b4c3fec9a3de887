import Foundation

/// The time that one expert takes on all cores of a host, as a function of its rows.
package struct ExpertClock {
  /// Numbers of rows in ascending order, with the seconds of the forward and of the backward pass for each.
  private let nodes: [(rows: Double, forward: Double, backward: Double)]

  /// Without a measured curve, times follow the roofline (Williams, Waterman and Patterson 2009). A forward pass
  /// takes as long as the longer of its products and of reading the weights once. A backward pass has twice the
  /// products, and reads the weights twice and writes their gradients.
  ///
  /// With a curve, the rate at each measured number of rows is the mean over the measured shapes, weighted by
  /// 1/distance² in (ln D, ln F) (Shepard 1968). Between measured numbers of rows the time is linear. Below the
  /// smallest one it falls linearly to half of that one's time at zero rows; above the largest one it is proportional
  /// to the rows.
  package init(_ rates: ComputeRates, model: ModelShape, feedForwardSize: Int, parameterBytes: Int) {
    let products = Double(2 * model.matrixCount * model.hiddenSize * feedForwardSize)
    let counts = Set(rates.curve.map(\.rows)).sorted()
    guard !counts.isEmpty else {
      let weights = Double(model.matrixCount * model.hiddenSize * feedForwardSize * parameterBytes)
      let reading = weights / rates.memoryBandwidth
      // The rows at which the products take as long as the reading.
      let knee = max(reading * rates.flops / products, 1e-9)
      nodes = [
        (0, reading, 3 * reading), (knee, reading, 3 * reading), (1.5 * knee, 1.5 * reading, 3 * reading),
        (1e15, 1e15 * products / rates.flops, 2e15 * products / rates.flops),
      ]
      return
    }
    var nodes = counts.map { rows in
      var (weight, forward, backward) = (0.0, 0.0, 0.0)
      for point in rates.curve where point.rows == rows {
        let distance =
          pow(log(Double(point.hiddenSize) / Double(model.hiddenSize)), 2)
          + pow(log(Double(point.feedForwardSize) / Double(feedForwardSize)), 2)
        let share = 1 / (distance + 1e-6)
        weight += share
        forward += share * point.forward
        backward += share * point.backward
      }
      let work = Double(rows) * products * weight
      return (rows: Double(rows), forward: work / forward, backward: 2 * work / backward)
    }
    let (first, last) = (nodes[0], nodes.last!)
    nodes.insert((0, first.forward / 2, first.backward / 2), at: 0)
    let far = 1e15 / last.rows
    nodes.append((1e15, last.forward * far, last.backward * far))
    self.nodes = nodes
  }

  /// Returns the seconds of both passes, which are 0 for no rows.
  package func seconds(rows: Double) -> (forward: Double, backward: Double) {
    if rows <= 0 { return (0, 0) }
    let upper = nodes.firstIndex { $0.rows >= rows } ?? nodes.count - 1
    let (a, b) = (nodes[max(upper, 1) - 1], nodes[max(upper, 1)])
    let share = (rows - a.rows) / (b.rows - a.rows)
    return (a.forward + share * (b.forward - a.forward), a.backward + share * (b.backward - a.backward))
  }
}
