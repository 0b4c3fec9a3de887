import CKernels
import MoE

/// The layers of a shape in all requested precisions, and their timing.
struct LayerBench {
  let limits: Limits
  private let shape: Shape
  private let precisions: [Precision]
  private let instructionSets: [InstructionSet]
  private let threadCount: Int
  private let effort: Effort

  init(
    shape: Shape, precisions: [Precision], instructionSets: [InstructionSet], threadCount: Int,
    effort: Effort
  ) throws {
    self.shape = shape
    self.precisions = precisions
    self.instructionSets = instructionSets
    self.threadCount = threadCount
    self.effort = effort
    limits = try Limits(threadCount: threadCount)
  }

  /// Times `MoELayer` for each number of tokens, all precisions and instruction sets in the same rounds.
  func layers(tokenCounts: [Int], report: (LayerRow) -> Void) throws {
    let configuration = try shape.configuration()
    let packing = try Execution(threadCount: threadCount)
    let sources = precisions.map { RandomWeights(shape: shape, precision: $0) }
    let layers = try sources.map {
      try MoELayer(configuration, weights: $0, precision: $0.precision, execution: packing)
    }
    for tokenCount in tokenCounts {
      var contenders: [Contender] = []
      var works: [Work] = []
      for (source, layer) in zip(sources, layers) {
        let inputs = randomInputs(tokenCount: tokenCount, shape: shape, precision: source.precision)
        for instructionSet in instructionSets {
          let execution = try Execution(instructionSet: instructionSet, threadCount: threadCount)
          let run = LayerRun(layer, inputs: inputs, execution: execution)
          let error = try run.error(tokens: 4, weights: source)
          try require(
            error, atMost: shape.tolerance(source.precision),
            "the layer \(shape.name) T=\(tokenCount) \(source.precision) on \(instructionSet)")
          works.append(work(tokenCount, source.precision, expertsUsed: try run.meanExpertsUsed()))
          contenders.append(
            Contender(
              name: "\(source.precision) \(instructionSet)",
              arithmetic: .init(instructionSet: instructionSet, precision: source.precision), error: error,
              run: run.forward))
        }
      }
      let timings = try timeInRounds(contenders, effort, limits: limits)
      for (index, contender) in contenders.enumerated() {
        report(
          LayerRow(
            shape: shape, tokenCount: tokenCount, contender: contender, timings: timings[index],
            work: works[index], limits: limits))
      }
    }
  }

  /// Times a recorded forward pass and its backward pass, with gradients of the input and of every parameter.
  func training(tokenCounts: [Int], report: (LayerRow) -> Void) throws {
    let sources = precisions.map { RandomWeights(shape: shape, precision: $0) }
    let layers = try sources.map {
      try MoELayer(
        shape.configuration(), weights: $0, precision: $0.precision,
        execution: Execution(threadCount: threadCount))
    }
    for tokenCount in tokenCounts {
      var contenders: [Contender] = []
      var works: [Work] = []
      for (source, layer) in zip(sources, layers) {
        let precision = source.precision
        let input = randomInputs(tokenCount: tokenCount, shape: shape, precision: precision)[0]
        // Each product of the forward pass has two in the backward pass, over all experts' weights.
        let forward = work(tokenCount, precision, expertsUsed: Double(shape.expertCount))
        for instructionSet in instructionSets {
          let run = try TrainingRun(
            layer, input: input,
            execution: Execution(instructionSet: instructionSet, threadCount: threadCount))
          let error = try run.error(weights: source)
          try require(
            error, atMost: shape.gradientTolerance(precision),
            "the gradient \(shape.name) T=\(tokenCount) \(precision) on \(instructionSet)")
          works.append(Work(flops: 3 * forward.flops, bytes: 3 * forward.bytes))
          contenders.append(
            Contender(
              name: "\(precision) train \(instructionSet)",
              arithmetic: .init(instructionSet: instructionSet, precision: precision), error: error,
              run: run.step))
        }
      }
      let timings = try timeInRounds(contenders, effort, limits: limits)
      for (index, contender) in contenders.enumerated() {
        report(
          LayerRow(
            shape: shape, tokenCount: tokenCount, contender: contender, timings: timings[index],
            work: works[index], limits: limits))
      }
    }
  }

  /// Times the kernels of a forward pass one after another, with the instruction sets in turn.
  ///
  /// The layer's packed weights are private, so they are packed a second time here. The layers of
  /// ``layers(tokenCounts:report:)`` have been released by then.
  func stages(_ precision: Precision, tokenCounts: [Int], report: (StageRow) -> Void) throws {
    let packing = moe_execution(.best, threadCount)
    let weights = try KernelWeights(RandomWeights(shape: shape, precision: precision), execution: packing)
    for tokenCount in tokenCounts {
      let inputs = randomInputs(tokenCount: tokenCount, shape: shape, precision: precision)
      var clocks = try instructionSets.map { instructionSet in
        let execution = moe_execution(instructionSet, threadCount)
        return try StageClock(LayerStages(weights, inputs: inputs, execution: execution))
      }
      for _ in 0..<effort.rounds {
        for index in clocks.indices { clocks[index].turn(seconds: effort.seconds) }
      }
      for (instructionSet, clock) in zip(instructionSets, clocks) {
        report(
          StageRow(
            tokenCount: tokenCount, contender: "\(precision) \(instructionSet)", medians: clock.medians))
      }
    }
  }

  /// Returns the FLOPs of the experts and the router, and the bytes of the used experts' weights, of the input and of
  /// the output.
  private func work(_ tokenCount: Int, _ precision: Precision, expertsUsed: Double) -> Work {
    let weights = expertsUsed * Double((shape.upWeights + shape.downWeights) * precision.byteCount)
    let router = 2 * Double(shape.hiddenSize * shape.expertCount)
    return Work(
      flops: Double(tokenCount) * (shape.expertFlopsPerToken + router),
      bytes: weights + Double(8 * tokenCount * shape.hiddenSize))
  }
}
