public import ArgumentParser
import MoE
public import MoETraining

/// `moe-bench model`
struct ModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model",
    abstract: "Times training steps of a language model, stage by stage, for several numbers of experts.",
    discussion: """
      A step is forward, backward and optimizer on random bytes; models of all sizes take turns. The share is that of \
      the FMA limit in the FLOPs of the weights a token passes, three times a forward pass. Memory is the model's \
      with gradients and the optimizer's moments.

      Example: moe-bench model --preset switch --experts 8,32,128,512
      """)

  @Option(help: "\(ModelPreset.allCases.map(\.rawValue).joined(separator: ", ")).")
  var preset = ModelPreset.switchTransformer
  @Option(help: "Numbers of experts, separated by commas.") var experts = CommaList([8])
  @Option(help: "Layers.") var layers = 4
  @Option(help: "The hidden size.") var hidden = 256
  @Option(help: "Attention heads.") var heads = 4
  @Option(help: "The feed-forward size of the dense model.") var ffn = 1024
  @Option(help: "Bytes of a sequence.") var context = 256
  @Option(help: "Sequences of a batch.") var batch = 16
  @Option(help: "What the networks' products are in: f32 or bf16.") var dtype = Precision.float32
  @Flag(help: "Keep the routing only and compute the experts again.") var recompute = false
  @OptionGroup var execution: ExecutionOptions
  @Option(help: "Rounds in which every model has a turn.") var rounds = 5

  func run() throws {
    let runs = try experts.elements.map { count in
      try ModelRun(
        ModelConfiguration(
          contextLength: context, hiddenSize: hidden, headCount: heads,
          blocks: preset.blocks(layerCount: layers, feedForwardSize: ffn, expertCount: count)),
        expertCount: count, batch: batch, precision: dtype, recording: recompute ? .recompute : .full,
        execution: Execution(
          instructionSet: execution.isa?.elements.last, threadCount: execution.threadCount))
    }
    let limits = try Limits(threadCount: execution.threadCount)
    for run in runs { try run.step() }
    var limit = 0.0
    for _ in 0..<rounds {
      limit = max(limit, limits.flopsPerSecond(.init(instructionSet: .best, precision: dtype)))
      for run in runs { run.record(try run.step()) }
    }
    let rows = runs.map { $0.row(peak: limit) }
    if execution.json { return try printJSON(rows) }
    printLine(ModelRow.header)
    for row in rows { printLine(row.line) }
    limits.notice().map(printError)
    printLine("limits with \(execution.threadCount) threads: \(limits.line)")
  }
}

extension ModelPreset: @retroactive ExpressibleByArgument {}
