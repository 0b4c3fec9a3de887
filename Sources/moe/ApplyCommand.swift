import ArgumentParser
import ExpertParallel
import Foundation
import MoE
import MoECheckpoints

/// Runs the MoE block of one layer of a checkpoint.
struct ApplyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apply", abstract: "Run the MoE block of one layer of a checkpoint over activations.",
    discussion: """
      The output file holds “output” (the input's shape, F32), “expert_ids” [T,K] I32, best expert first, \
      and “expert_weights” [T,K] F32, 0 where a capacity dropped the choice. It has the same bytes for any \
      number of threads and ranks.

      Model types: \(Checkpoint.supportedModelTypes.joined(separator: ", ")).

      Examples:
        moe apply Mixtral-8x7B --layer 3 --input x.safetensors --output y.safetensors
        moe apply switch-base-8 --layer encoder.1 --input x.safetensors \\
          --tensor hidden --output y.safetensors
        moe apply Qwen3-30B-A3B --layer 7 --input x.safetensors \\
          --output y.safetensors --ranks 4
      """)

  @Argument(help: "A folder with config.json and safetensors files.") var checkpoint: String
  @Option(help: "The decoder layer's index; encoder.N or decoder.N for encoder–decoder models.")
  var layer: String
  @Option(help: "A safetensors file with activations […, D].") var input: String
  @Option(help: "The tensor of the input file; may be left out where it holds one.") var tensor: String?
  @Option(help: "The safetensors file to write.") var output: String
  @Option(
    help: ArgumentHelp(
      "What the experts' weights are stored in and their inputs rounded to.",
      valueName: Precision.allCases.map(\.rawValue).joined(separator: "|")))
  var dtype: Precision = .float32
  @Option(
    help: "Ranks of this process that share the experts, each with a part of the tokens and of the threads.")
  var ranks = 1
  @OptionGroup var options: ExecutionOptions

  func validate() throws {
    if !(1...1024).contains(ranks) { throw ValidationError("--ranks is \(ranks), expected 1 to 1024") }
  }

  func run() throws {
    let execution = try options.execution()
    try SafetensorsWriter.check(path: output)
    let file = try ActivationFile(path: input, tensor: tensor)
    let model = try Checkpoint(folder: checkpoint)
    let block = try model.layer(layer)
    try file.require(hiddenSize: block.configuration.hiddenSize, of: checkpoint)
    let result: (output: Activations, record: RoutingRecord, seconds: Double)
    do {
      result =
        ranks == 1
        ? try block.applied(to: file.activations, dtype, execution)
        : try block.applied(to: file.activations, dtype, execution, ranks: ranks)
    } catch let error as PassError {
      throw file.error("cannot pass layer \(layer) of \(checkpoint): \(error)")
    }
    let milliseconds = result.seconds * 1000
    let record = result.record
    var writer = SafetensorsWriter()
    try writer.add("output", result.output.tokens.elements, shape: result.output.shape)
    try writer.add("expert_ids", record.expertIDs, shape: [record.tokenCount, record.expertsPerToken])
    try writer.add(
      "expert_weights", record.expertWeights, shape: [record.tokenCount, record.expertsPerToken])
    try writer.write(to: output)
    print(
      "\(model.modelType) layer \(layer): \(record.tokenCount) tokens, top-\(record.expertsPerToken) of "
        + "\(record.expertCount) experts, \(record.droppedCount) choices dropped, \(fixed(milliseconds, 1)) ms "
        + "(\(dtype), \(execution.instructionSet), \(execution.threadCount) threads"
        + (ranks == 1 ? "" : ", \(ranks) ranks") + ") → \(output)")
  }
}
