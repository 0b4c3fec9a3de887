/// The bench of one kernel: its cases at realistic sizes. Each case is checked before it is timed.
protocol KernelBench: SendableMetatype {
  /// The bench's name in `--filter` and in the report.
  static var name: String { get }
  /// Checks and times every case. A quick session has fewer and smaller cases.
  static func run(_ session: Session) throws
}

/// All kernel benches, in the order of a layer's forward pass.
let kernelBenches: [any KernelBench.Type] = [
  PackBench.self, RouterBench.self, PermuteBench.self, GatherBench.self, GroupedGEMMBench.self,
  CombineBench.self, OptimizerBench.self,
]
