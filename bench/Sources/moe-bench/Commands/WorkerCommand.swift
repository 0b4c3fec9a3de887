import ArgumentParser
import Foundation
import MoE

/// `moe-bench worker`
struct WorkerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "worker",
    abstract: "Times a layer on request, line by line: a contender for bench_peers.py.",
    discussion: """
      Prints 'err swift_moe E', the relative RMS error against the oracle on 16 tokens, and 'ready swift_moe', \
      then answers 'run swift_moe T SECONDS' with 'times MS MS …' until 'quit'. Routes by softmax, top-k and \
      normalisation. Lines are the only output, so --json changes nothing. With --train the contender is \
      swift_moe_train, a forward and its backward, and E the error of a gradient along a direction.

      Example: moe-bench worker --H 1024 --F 3584 --E 8 --k 2 --dtype bf16 --threads 2 --act silu --Ts 1,512
      """)

  @Option(name: .customLong("H"), help: "The hidden size.") var hiddenSize: Int
  @Option(name: .customLong("F"), help: "The feed-forward size.") var feedForwardSize: Int
  @Option(name: .customLong("E"), help: "The number of experts.") var expertCount: Int
  @Option(name: .customLong("k"), help: "Experts per token.") var expertsPerToken: Int
  @Option(help: "fp32 or bf16; int8 and int4 are answered with no contender.") var dtype = DType.fp32
  @Option(help: "silu for SwiGLU, relu for ReLU without a gate.") var act = Act.silu
  @Option(name: .customLong("Ts"), help: "The numbers of tokens that will be asked for.")
  var tokenCounts = CommaList([1])
  @Option(help: "Only these contenders, separated by commas.") var only: String?
  @Flag(help: "Time forward and backward, gradients of all parameters included.") var train = false
  @OptionGroup var execution: ExecutionOptions

  /// The names that the peers use for precisions.
  enum DType: String, ExpressibleByArgument, CaseIterable {
    case fp32, bf16, int8, int4
  }

  /// The names that the peers use for activations.
  enum Act: String, ExpressibleByArgument, CaseIterable {
    case silu, relu
  }

  private var name: String { train ? "swift_moe_train" : "swift_moe" }

  func validate() throws {
    if let isa = execution.isa, isa.elements.count > 1 {
      throw ValidationError("--isa names \(isa.elements.count) instruction sets, a worker has one")
    }
  }

  func run() throws {
    let precision: Precision
    switch dtype {
    case .fp32: precision = .float32
    case .bf16: precision = .bfloat16
    case .int8, .int4:
      printLine("# \(dtype.rawValue) is not supported yet")
      printLine("ready")
      return
    }
    if let only, !only.isEmpty, !only.split(separator: ",").contains(Substring(name)) {
      printLine("ready")
      return
    }
    let shape = Shape(
      name: "the peers'", hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, expertCount: expertCount,
      expertsPerToken: expertsPerToken, isGated: act == .silu)
    let worker = try Worker(
      weights: RandomWeights(shape: shape, precision: precision), trains: train,
      execution: Execution(
        instructionSet: execution.isa?.elements.first, threadCount: execution.threadCount))
    printLine("err \(name) \(scientific(try worker.error()))")
    printLine("ready \(name)")
    while let line = readLine(), line != "quit" {
      let words = line.split(separator: " ")
      guard words.count == 4, words[0] == "run", words[1] == name, let tokenCount = Int(words[2]),
        tokenCount > 0, let seconds = Double(words[3])
      else {
        throw ValidationError("the request \"\(line)\" is not \"run \(name) T SECONDS\"")
      }
      let times = try worker.times(tokenCount: tokenCount, seconds: seconds)
      printLine((["times"] + times.map { fixed($0 * 1e3, 5) }).joined(separator: " "))
    }
  }
}
