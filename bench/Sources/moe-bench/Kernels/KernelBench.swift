/// The bench of one kernel: its cases at sizes that occur in life, each checked before it is timed.
protocol KernelBench: SendableMetatype {
  /// What `--filter` and the report call it.
  static var name: String { get }
  /// Checks and times every case; fewer and smaller ones where the session is quick.
  static func run(_ session: Session) throws
}

/// All of them, in the order of a layer's forward.
let kernelBenches: [any KernelBench.Type] = [
  PackBench.self, RouterBench.self, PermuteBench.self, GatherBench.self, GroupedGEMMBench.self,
  CombineBench.self, OptimizerBench.self,
]
