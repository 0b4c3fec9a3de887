import ArgumentParser

/// The command `moe-bench`.
@main
struct MoEBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "moe-bench",
    abstract: "Measures the kernels and layers of swift-moe against this machine's limits.",
    discussion: """
      Every figure is a median over interleaved rounds of one run, and every contender is checked against the \
      oracle before it is timed. Run nothing else meanwhile.

      Example: moe-bench kernels --filter router
      """,
    subcommands: [
      KernelsCommand.self, LayerCommand.self, ModelCommand.self, ExchangeCommand.self, WorkerCommand.self,
      HeadlineCommand.self,
    ])
}
