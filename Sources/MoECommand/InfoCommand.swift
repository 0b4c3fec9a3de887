import ArgumentParser
import ExpertParallel
import Foundation
import MoE
import MoETraining

/// Shows the machine and the libraries, and how much of the machine the kernels use.
struct InfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info", abstract: "Show CPU, instruction set, threads and libraries.",
    discussion: "Example:\n  moe info --json")

  @OptionGroup var options: ExecutionOptions
  @Flag(help: "Print one JSON object.") var json = false

  private struct Report: Encodable {
    var version: String
    var cpu: String
    var isa: String
    var supportedISAs: [String]
    var threads: Int
    var openMP: String
    var blas: String
    var mpi: String
  }

  func run() throws {
    let execution = try options.execution()
    let report = Report(
      version: version, cpu: Self.cpuName(), isa: execution.instructionSet.rawValue,
      supportedISAs: InstructionSet.supported.map(\.rawValue), threads: execution.threadCount,
      openMP: "libomp",
      blas: OpenBLAS.description,
      mpi: libraryVersionOfMPI ?? "not in this build")
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      StandardStream.output.json(try encoder.encode(report))
    } else {
      StandardStream.output.line("version  \(report.version)")
      StandardStream.output.line("CPU      \(report.cpu)")
      StandardStream.output.line(
        "ISA      \(report.isa) (this CPU runs \(report.supportedISAs.joined(separator: ", ")))")
      StandardStream.output.line("threads  \(report.threads)")
      StandardStream.output.line("OpenMP   \(report.openMP)")
      StandardStream.output.line("BLAS     \(report.blas)")
      StandardStream.output.line("MPI      \(report.mpi)")
    }
  }

  static func cpuName() -> String {
    let lines = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.split(separator: "\n") ?? []
    let name = lines.first { $0.hasPrefix("model name") }?.split(separator: ":").last
    return name.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown"
  }
}
