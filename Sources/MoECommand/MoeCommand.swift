import ArgumentParser

/// The version the command prints and `moe info` reports.
let version = "0.1.0"

@main
struct MoeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "moe",
    abstract:
      "Mixture-of-Experts on CPUs: layers of public checkpoints, and small language models of your own.",
    discussion: """
      Examples:
        moe info
        moe apply Mixtral-8x7B --layer 3 --input x.safetensors --output y.safetensors
        moe route logits.safetensors --policy gshard-top2 --capacity-factor 1.25
        moe train --text books --out run
        moe generate run --prompt "Once upon a time"
        moe report run
        moe plan --experts 64 --hidden 1024 --ffn 2048 --hosts 4
        moe check
      """,
    version: version,
    subcommands: [
      InfoCommand.self, ApplyCommand.self, RouteCommand.self, TrainCommand.self, GenerateCommand.self,
      ReportCommand.self, PlanCommand.self, CheckCommand.self,
    ])
}
