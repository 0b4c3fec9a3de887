import CKernels
import ExpertParallel
import MoE

/// The measurements of a layer over ranks: passes by degree of overlap, passes with a blocking all-to-all, the exchange
/// alone, and the computation alone.
final class ExchangeBench {
  /// A measured operation that all ranks do together.
  struct Contender {
    let name: String
    let body: () throws -> Void
    /// The slowest rank's seconds, round by round.
    var seconds: [Double] = []
  }

  private(set) var contenders: [Contender] = []
  private let communicator: any Communicator

  init(
    _ problem: BalancedProblem, slices: [Int], execution: Execution, over communicator: any Communicator
  ) throws {
    self.communicator = communicator
    let input = problem.input()
    let first = try layer(problem, .slices(1), execution)
    let (output, record) = try first(input, execution: execution)
    try requireBalance(record, problem)
    let reference = try BlockingLayer(
      problem, choiceWeights: record.expertWeights, rank: communicator.rank, rankCount: communicator.size,
      execution: moe_execution(execution.instructionSet, execution.threadCount))
    try reference.forward()
    let error = relativeRMS(
      reference.output.elements(0..<reference.output.count).map(Double.init),
      output.tokens.elements.map(Double.init))
    try require(error, atMost: roundings(8), "the layer on MPI_Alltoallv")

    let exchange = PlainExchange(problem, over: communicator)
    contenders.append(Contender(name: "exchange alone", body: exchange.forward))
    contenders.append(Contender(name: "experts alone", body: reference.compute))
    contenders.append(Contender(name: "MPI_Alltoallv", body: reference.forward))
    let degrees = [("automatic", OverlapDegree.automatic)] + slices.map { ("slices \($0)", .slices($0)) }
    for (name, degree) in degrees {
      let run = try LayerPass(layer(problem, degree, execution), input, execution)
      contenders.append(Contender(name: name, body: run.forward))
      contenders.append(Contender(name: name + ", backward too", body: run.both))
    }
  }

  private func layer(
    _ problem: BalancedProblem, _ overlap: OverlapDegree, _ execution: Execution
  ) throws -> ExpertParallelLayer {
    try ExpertParallelLayer(
      problem.shape.configuration(), weights: problem, over: communicator,
      exchange: ExchangeOptions(overlap: overlap), execution: execution)
  }

  /// Checks that a pass has the given routing. The reference and the exchange alone rely on it.
  private func requireBalance(_ record: RoutingRecord, _ problem: BalancedProblem) throws {
    for token in 0..<record.tokenCount {
      let (first, second) = problem.experts(ofToken: token)
      guard record.expertIDs[2 * token] == Int32(first), record.expertIDs[2 * token + 1] == Int32(second)
      else {
        throw CheckFailure(description: "token \(token) is not routed to experts \(first) and \(second)")
      }
    }
  }

  /// Times all contenders in turn, on all ranks together; the first round is not counted.
  func run(rounds: Int) throws {
    for round in 0...rounds {
      for index in contenders.indices {
        try communicator.barrier(during: contenders[index].name)
        let own = try seconds(contenders[index].body)
        let slowest = try communicator.allReduce(own, .maximum, during: contenders[index].name)
        if round > 0 { contenders[index].seconds.append(slowest) }
      }
    }
  }
}

/// A layer's passes in their own storage.
private final class LayerPass {
  private let layer: ExpertParallelLayer
  private let input: Activations
  private let execution: Execution
  private var workspace = ExpertParallelWorkspace()
  private var recording = ExpertParallelRecording()
  private var output: Activations
  private var inputGradient: Activations
  private let gradients: MoEGradients
  private var record = RoutingRecord()

  init(_ layer: ExpertParallelLayer, _ input: Activations, _ execution: Execution) throws {
    (self.layer, self.input, self.execution) = (layer, input, execution)
    (output, inputGradient) = (input, input)
    gradients = try layer.makeGradients()
  }

  func forward() throws {
    try layer.forward(input, into: &output, record: &record, workspace: &workspace, execution: execution)
  }

  func both() throws {
    try layer.forward(
      input, recording: &recording, into: &output, workspace: &workspace, execution: execution)
    try layer.backward(
      output, input: input, recording: &recording, into: &inputGradient, gradients: gradients,
      workspace: &workspace, execution: execution)
  }
}

/// An exchange of only the bytes that a forward pass must move: each token once to every rank that has one of its
/// experts, and one row back per choice.
private final class PlainExchange {
  private let communicator: any Communicator
  private let tokens: (source: MessageBuffer, destination: MessageBuffer, blocks: BlockLayout)
  private let rows: (source: MessageBuffer, destination: MessageBuffer, blocks: BlockLayout)

  init(_ problem: BalancedProblem, over communicator: any Communicator) {
    self.communicator = communicator
    let each = problem.shape.expertCount / communicator.size
    var tokenCounts = [Int](repeating: 0, count: communicator.size)
    var rowCounts = tokenCounts
    for token in 0..<problem.tokenCount {
      let (first, second) = problem.experts(ofToken: token)
      for rank in Set([first / each, second / each]) { tokenCounts[rank] += 1 }
      for rank in [first / each, second / each] { rowCounts[rank] += 1 }
    }
    // The routing is even and the same on all ranks, so each rank sends to this rank as much as it receives from it.
    func exchange(_ counts: [Int]) -> (MessageBuffer, MessageBuffer, BlockLayout) {
      let width = problem.shape.hiddenSize * MemoryLayout<Float>.stride
      let blocks = BlockLayout(rows: counts, bytesPerRow: width)
      let bytes = counts.reduce(0, +) * width
      return (MessageBuffer(byteCount: bytes), MessageBuffer(byteCount: bytes), blocks)
    }
    (tokens, rows) = (exchange(tokenCounts), exchange(rowCounts))
  }

  func forward() throws {
    for (source, destination, blocks) in [tokens, rows] {
      try communicator.startAllToAll(
        from: source, blocks, into: destination, blocks, during: "the exchange alone"
      ).wait()
    }
  }
}
