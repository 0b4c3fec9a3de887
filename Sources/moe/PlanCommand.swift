import ArgumentParser
import Foundation
import MoE
import MoEPlan

/// Predicts what a model costs on a cluster.
struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "plan", abstract: "x")
  @Flag(help: "c") var calibrate = false
  @Option(help: "o") var output: String?
  @OptionGroup var execution: ExecutionOptions

  func run() throws {
    try PlanCalibration(execution: execution.execution(), output: output).run()
  }
}
