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
  @Option(help: "Index of the decoder layer; encoder.N or decoder.N for encoder–decoder models.")
  var layer: String
  @Option(help: "A safetensors file with activations […, D].") var input: String
  @Option(help: "The tensor of the input file (its only one).") var tensor: String?
  @Option(help: "The safetensors file to write.") var output: String
  @Option(
    help: ArgumentHelp(
      "Number format of the experts' weights, to which their inputs are rounded too.",
      valueName: Precision.allCases.map(\.rawValue).joined(separator: "|")))
  var dtype: Precision = .float32
  @Option(
    help: "Ranks of this process, which share experts, tokens and threads (1).")
  var ranks: Int?
  @Flag(help: "Be one rank of those that mpirun starts, on one host or many; rank 0 writes the file.")
  var mpi = false
  @OptionGroup var options: ExecutionOptions

  func validate() throws {
    if let ranks, !(1...1024).contains(ranks) {
      throw ValidationError("--ranks is \(ranks), expected 1 to 1024")
    }
    if mpi, ranks != nil {
      throw ValidationError(
        "--ranks starts ranks in this process, and --mpi takes those of mpirun: give one of both")
    }
  }

  func run() throws {
    let execution = try options.execution()
    if mpi {
      let facts = [
        SharedFact("--layer", layer), SharedFact("--dtype", dtype.rawValue), .instructionSet(execution),
      ]
      try onMPIRanks("moe apply", options: facts) { communicator in
        let own = try execution.part(of: communicator, asked: options.threads)
        try run(own, ", \(communicator.size) ranks", isWriter: communicator.rank == 0) { block, file in
          try communicator.requireAgreement(on: [
            SharedFact(
              "the checkpoint (a hash of config.json and of parts of the layer's tensors)",
              block.fingerprint()),
            SharedFact("the input (a hash of its shape and bytes)", file.fingerprint()),
          ])
          return try block.applied(to: file, name: name, dtype, own, over: communicator)
        }
        // No rank succeeds before the file is written.
        try communicator.barrier(during: "writing \(output)")
      }
    } else if let ranks, ranks > 1 {
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

  /// The layer, as errors name it.
  private var name: String { "layer \(layer) of \(checkpoint)" }

  /// Reads the header of the input and the layer, calls `apply`, and writes the output where `apply` returns one.
  private func run(
    _ execution: Execution, _ ranks: String = "", isWriter: Bool = true,
    by apply: (CheckpointLayer, ActivationFile) throws -> AppliedLayer?
  ) throws {
    if isWriter { try AtomicFile.check(output, isNoneOf: [input]) }
    let file = try ActivationFile(path: input, tensor: tensor)
    let model = try Checkpoint(folder: checkpoint)
    if isWriter { try AtomicFile.check(output, isNoneOf: model.filePaths) }
    let block = try model.layer(layer)
    try file.require(hiddenSize: block.configuration.hiddenSize, of: checkpoint)
    guard let result = try apply(block, file) else { return }
    let (chosen, experts) = (block.configuration.expertsPerToken, block.configuration.expertCount)
    var writer = SafetensorsWriter()
    try writer.add("output", result.output.elements, shape: file.shape)
    try writer.add("expert_ids", result.expertIDs, shape: [file.tokenCount, chosen])
    try writer.add("expert_weights", result.expertWeights, shape: [file.tokenCount, chosen])
    try writer.write(to: output)
    StandardStream.besides(output).remark(
      "\(model.modelType) layer \(layer): \(file.tokenCount) tokens, top-\(chosen) of \(experts) experts, "
        + "\(result.droppedCount) choices dropped, \(fixed(result.seconds * 1000, 1)) ms "
        + "(\(dtype), \(execution.instructionSet), \(execution.threadCount) threads\(ranks)) → \(output)")
  }
}
