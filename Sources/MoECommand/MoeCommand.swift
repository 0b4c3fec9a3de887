import ArgumentParser
import Foundation

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

  /// Runs the command that the arguments name, and ends the process: with 0, with 1 after a failure, with 64 after bad
  /// usage. Messages of the argument parser, help and version included, go through ``StandardStream`` as all others do.
  static func main() {
    StandardStream.prepare()
    var status: Int32 = 0
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch is OutputError {
      // The flush below tells it.
    } catch {
      status = exitCode(for: error).rawValue
      let message = fullMessage(for: error)
      if status == 0 {
        StandardStream.output.text(message + "\n")
      } else if status == ExitCode.failure.rawValue, !message.isEmpty {
        StandardStream.errors.line(message)
      } else if !message.isEmpty {
        StandardStream.errors.text(message + "\n")
      }
    }
    do throws(OutputError) {
      try StandardStream.output.flush()
    } catch {
      if !error.isClosedPipe { StandardStream.errors.line("Error: \(error)") }
      if status == 0 { status = ExitCode.failure.rawValue }
    }
    Foundation.exit(status)
  }
}
