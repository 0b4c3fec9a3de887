import ArgumentParser
import Foundation
import MoE
import MoECheckpoints
import MoEPlan

/// Predicts what a model costs on a cluster.
struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan", abstract: "Predict memory, traffic and step time of a model on a cluster.",
    discussion: """
      Tries every split of the ranks into expert (EP), data (DP) and tensor parallelism (TP), with the exchange in \
      1, 2, 4, 8 and 16 slices, and orders those that fit memory by step time. Loads are uniform, Zipf's, or \
      measured by moe train or moe route --output. Memory counts parameters, their gradients and moments, \
      activations with the logits, and buffers, but not the scores of attention.

      With --calibrate it measures this machine instead, writes the description that --cluster reads, and \
      prints how far its predictions are from layers that were not measured. With --mpi under mpirun it measures \
      the machines and links of the job.

      Examples:
        moe plan --experts 64 --hidden 1024 --ffn 512 --layers 16 \\
          --hosts 4 --ranks-per-host 2 --link 1gbit:50us --flops 250G --memory 24GiB
        moe plan --calibrate --output host.json
        moe plan --cluster host.json --hosts 8 --link 10gbit:20us \\
          --experts 128 --top-k 8 --hidden 2048 --ffn 768 --layers 48 \\
          --load zipf:0.8 --svg plan.svg
        moe plan --cluster host.json --experts 8 --top-k 1 --hidden 256 \\
          --ffn 1024 --load runs/switch --json
      """)

  @OptionGroup(title: "Model and step") var shape: PlannedModelOptions
  @OptionGroup(title: "Cluster") var machines: PlannedClusterOptions
  @Option(
    help:
      "The load of the experts: uniform, zipf:EXPONENT, a run or its metrics.jsonl, or a file of moe route --output (uniform)."
  )
  var load: String?
  @Option(
    help: ArgumentHelp(
      "How experts are placed on ranks: in order, or by load (contiguous).",
      valueName: PlacementRule.allCases.map(\.rawValue).joined(separator: "|")))
  var placement: PlacementRule?
  @Option(
    help: ArgumentHelp(
      "Only this exchange of rows between hosts; without it the one that layers use.",
      valueName: Route.allCases.map(\.rawValue).joined(separator: "|")))
  var route: Route?
  @Option(help: "Seed of the loads (1).") var seed: UInt64?
  @Option(help: "Only this EP.") var ep: Int?
  @Option(help: "Only this DP.") var dp: Int?
  @Option(help: "Only this TP.") var tp: Int?
  @Option(help: "Only this number of slices.") var overlap: Int?
  @Option(help: "Splits to list (10).") var list: Int?
  @Flag(help: "Print one JSON object.") var json = false
  @Option(help: ArgumentHelp("A drawing to write.", valueName: "file")) var svg: String?
  @Flag(help: "Measure this machine.") var calibrate = false
  @Flag(help: "Measure the machines of an MPI job.") var mpi = false
  @Option(help: ArgumentHelp("The description that --calibrate writes.", valueName: "file")) var output:
    String?
  @OptionGroup var execution: ExecutionOptions

  func validate() throws {
    for (name, value) in [("--ep", ep), ("--dp", dp), ("--tp", tp), ("--overlap", overlap), ("--list", list)]
    {
      if let value, value < 1 { throw ValidationError("\(name) is \(value), expected at least 1") }
    }
    if calibrate {
      let own = [
        ("--load", load != nil), ("--placement", placement != nil), ("--route", route != nil),
        ("--seed", seed != nil), ("--ep", ep != nil), ("--dp", dp != nil), ("--tp", tp != nil),
        ("--overlap", overlap != nil), ("--list", list != nil), ("--json", json), ("--svg", svg != nil),
      ]
      if let option = (shape.given + machines.given + own).first(where: \.isGiven)?.name {
        throw ValidationError(
          "--calibrate measures machines and plans nothing, so it goes without \(option); give one of both")
      }
      return
    }
    if json, let svg, StandardStream.output.isSame(as: svg) {
      throw ValidationError(
        "--json and --svg both write to the standard output; give --svg the name of a file")
    }
    if mpi { throw ValidationError("--mpi goes with --calibrate") }
    if output != nil {
      throw ValidationError("--output goes with --calibrate; a plan is written by --svg and --json")
    }
    _ = try shape.model()
  }

  /// The files that `--load` reads, where it names any.
  private var loadFiles: [String] {
    guard let load else { return [] }
    return ["", "/run.json", "/metrics.jsonl", "/routing.json", "/sample.txt"].map { load + $0 }
  }

  func run() throws {
    if calibrate {
      let calibration = PlanCalibration(
        execution: try execution.execution(), threads: execution.threads, output: output)
      return try mpi ? calibration.runOverMPI() : calibration.run()
    }
    if let svg { try AtomicFile.check(svg, isNoneOf: [machines.cluster].compactMap(\.self) + loadFiles) }
    let cluster = try machines.description()
    let model = try shape.model()
    let (load, seed) = (self.load ?? "uniform", self.seed ?? 1)
    let workload = try shape.workload(rankCount: cluster.rankCount, seed: seed)
    var planner = try Planner(
      model: model, workload: workload, cluster: cluster, load: LoadTrace.read(load, seed: seed))
    planner.placement = placement ?? .contiguous
    planner.route = route
    let outcome = try planner.search(
      expertParallel: ep, dataParallel: dp, tensorParallel: tp, overlap: overlap)
    guard let best = outcome.ranked.first else {
      let least = outcome.rejected[0]
      throw PlanError(
        "no split fits: \(least.prediction.split), which needs least, \(least.reason); give hosts more memory, more "
          + "hosts\(workload.recomputes || !workload.trains ? "" : ", --recompute") or fewer --tokens")
    }
    let report = PlanReport(planner: planner, outcome: outcome, load: load)
    if let svg {
      let drawing = PlanDrawing(outcome.best, title: report.title)
      try AtomicFile.write(Array(drawing.svg.utf8), to: svg)
    }
    if json {
      StandardStream.output.json(report.json(listed: list ?? 10))
    } else {
      report.show(best, listed: list ?? 10)
      if let svg { StandardStream.besides(svg).remark("drawing → \(svg)") }
    }
  }
}
