import CommunicatorProperties
import ExpertParallel

// The ranks of `make mpi-test`: checks the properties, or brings about a failure and reports what it looks like.

func fail(_ message: String) -> Never {
  report("moe-mpi-probe: \(message)", to: .error)
  exitProcess(64)
}

let arguments = CommandLine.arguments.dropFirst()
switch arguments.first {
case "local":
  guard let count = arguments.dropFirst().first.flatMap({ Int($0) }) else { fail("local RANKS") }
  let lines = try LocalCommunicator.run(ranks: count) { try propertyLines($0) }
  for line in lines[0] { print(line) }
case "fail":
  guard let name = arguments.dropFirst().first, let scenario = Scenario(rawValue: name) else {
    fail("fail " + Scenario.allCases.map(\.rawValue).joined(separator: "|"))
  }
  runScenario(scenario)
case "mpi": try runPropertiesOverMPI()
default: fail("local RANKS, mpi, or fail SCENARIO")
}
