import ArgumentParser
import MoE

/// `moe-bench layer`
struct LayerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "layer",
    abstract: "Times a whole layer through the Swift API, and its stages.",
    discussion: """
      S1 is Switch-like (D 512, F 2048, E 8, K 2, ReLU), S2 Mixtral-like (1024, 3584, 8, 2, SwiGLU), S3 \
      Qwen3-like (2048, 768, 128, 8, SwiGLU). Up to 16 tokens the layer takes 16 inputs in turn, so that \
      weights come from memory.

      With --train a row is a recorded forward and its backward, gradients of all parameters included.

      Example: moe-bench layer --shape S2 --dtype f32,bf16 --tokens 1,16,512,2048
      Example: moe-bench layer --shape S2 --train --dtype f32,bf16 --tokens 512,2048
      """)

  @Option(help: "S1, S2 or S3.")
  var shape = Shape.all[1]

  @Option(help: "What the weights are stored in: f32 or bf16, or both.")
  var dtype = CommaList([Precision.float32])

  @Option(help: "Batch sizes, separated by commas.")
  var tokens = CommaList([512, 2048])

  @Flag(help: "Time forward and backward instead of the forward.")
  var train = false

  @OptionGroup var execution: ExecutionOptions
  @OptionGroup var effort: EffortOptions

  func validate() throws {
    for count in tokens.elements where !(1...(1 << 20)).contains(count) {
      throw ValidationError("--tokens has \(count), expected 1 to \(1 << 20)")
    }
  }

  func run() throws {
    let instructionSets = try execution.isa?.elements ?? [Execution().instructionSet]
    let bench = try LayerBench(
      shape: shape, precisions: dtype.elements, instructionSets: instructionSets,
      threadCount: execution.threadCount, effort: effort.effort)
    let showsText = !execution.json
    var layers: [LayerRow] = []
    func report(_ row: LayerRow) {
      layers.append(row)
      if showsText { printLine(row.line) }
    }
    if train {
      try bench.training(tokenCounts: tokens.elements, report: report)
    } else {
      try bench.layers(tokenCounts: tokens.elements, report: report)
    }
    var stages: [StageRow] = []
    for precision in train ? [] : dtype.elements {
      try bench.stages(precision, tokenCounts: tokens.elements) { row in
        stages.append(row)
        if showsText { printLine(row.line) }
      }
    }
    bench.limits.notice().map(printError)
    if showsText {
      printLine("limits with \(execution.threadCount) threads: \(bench.limits.line)")
    } else {
      try printJSON(
        LayerReport(
          shape: shape, threads: execution.threadCount, limits: bench.limits.summary, layers: layers,
          stages: stages))
    }
  }
}

/// The output of `--json`.
private struct LayerReport: Encodable {
  let shape: Shape
  let threads: Int
  let limits: [String: Double]
  let layers: [LayerRow]
  let stages: [StageRow]
}
