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
        mpirun -n 4 moe apply Qwen3-30B-A3B --layer 7 --input x.safetensors \\
          --output y.safetensors --mpi
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
  @Flag(help: "The ranks are those of mpirun, on one host or many; rank 0 writes the file.")
  var mpi = false
  @OptionGroup var options: ExecutionOptions

  func validate() throws {
    if !(1...1024).contains(ranks) { throw ValidationError("--ranks is \(ranks), expected 1 to 1024") }
    if mpi, ranks != 1 {
      throw ValidationError("--ranks is of one process, and --mpi of many: give one of both")
    }
  }

  func run() throws {
    let execution = try options.execution()
    if mpi {
      try onMPIRanks { communicator in
        let own = try execution.part(of: communicator, asked: options.threads)
        try run(own, ", \(communicator.size) ranks", isWriter: communicator.rank == 0) { block, file in
          try block.applied(to: file, name: name, dtype, own, over: communicator)
        }
        // Nobody succeeds before the file is there.
        try communicator.barrier(during: "writing \(output)")
      }
    } else if ranks > 1 {
      try run(execution, ", \(ranks) ranks") { block, file in
        try LocalCommunicator.run(ranks: ranks) {
          try block.applied(to: file, name: name, dtype, execution.part($0.rank, of: ranks), over: $0)
        }[0]
      }
    } else {
      try run(execution) { block, file in
        try block.applied(to: file, name: name, dtype, execution)
      }
    }
  }

  /// What errors call the layer.
  private var name: String { "layer \(layer) of \(checkpoint)" }

  /// Reads the header of the input and the layer, applies it by `apply`, and writes what comes of it, if anything.
  private func run(
    _ execution: Execution, _ ranks: String = "", isWriter: Bool = true,
    by apply: (CheckpointLayer, ActivationFile) throws -> AppliedLayer?
  ) throws {
    if isWriter { try SafetensorsWriter.check(path: output) }
    let file = try ActivationFile(path: input, tensor: tensor)
    let model = try Checkpoint(folder: checkpoint)
    let block = try model.layer(layer)
    try file.require(hiddenSize: block.configuration.hiddenSize, of: checkpoint)
    guard let result = try apply(block, file) else { return }
    let (chosen, experts) = (block.configuration.expertsPerToken, block.configuration.expertCount)
    var writer = SafetensorsWriter()
    try writer.add("output", result.output.elements, shape: file.shape)
    try writer.add("expert_ids", result.expertIDs, shape: [file.tokenCount, chosen])
    try writer.add("expert_weights", result.expertWeights, shape: [file.tokenCount, chosen])
    try writer.write(to: output)
    print(
      "\(model.modelType) layer \(layer): \(file.tokenCount) tokens, top-\(chosen) of \(experts) experts, "
        + "\(result.droppedCount) choices dropped, \(fixed(result.seconds * 1000, 1)) ms "
        + "(\(dtype), \(execution.instructionSet), \(execution.threadCount) threads\(ranks)) → \(output)")
  }
}
