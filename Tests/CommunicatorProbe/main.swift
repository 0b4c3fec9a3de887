import CommunicatorProperties
import ExpertParallel

// The ranks of `make mpi-test`: over MPI they print what threads print by `local`, or bring about a failure and report
// what it looks like; see `Tests/MPI/`.

func fail(_ message: String) -> Never {
  report("moe-mpi-probe: \(message)", to: .error)
  exitProcess(64)
}

func ranks(_ text: String?) -> Int {
  guard let count = text.flatMap({ Int($0) }) else { fail("local-properties|local-layer RANKS") }
  return count
}

let arguments = Array(CommandLine.arguments.dropFirst())
let argument = arguments.dropFirst().first
switch arguments.first {
case "local-properties":
  for line in try LocalCommunicator.run(ranks: ranks(argument), propertyLines)[0] { print(line) }
case "local-layer":
  for line in try LocalCommunicator.run(ranks: ranks(argument), layerLines)[0] { print(line) }
case "one-layer": for line in try layerLinesOfOne() { print(line) }
// Messages of MPI so short that most blocks are cut.
case "properties": try overMPI(pieceBytes: 5000, propertyLines)
case "layer": try overMPI(layerLines)
case "traffic": try overMPI(trafficLines)
case "crossing":
  guard let crossing = argument.flatMap(Crossing.init) else {
    fail("crossing " + Crossing.allCases.map(\.rawValue).joined(separator: "|"))
  }
  try overMPI(crossing.lines)
case "fail":
  guard arguments.count == 4, let subject = Subject(rawValue: arguments[1]),
    let scenario = Scenario(rawValue: arguments[2])
  else {
    fail(
      "fail " + Subject.allCases.map(\.rawValue).joined(separator: "|") + " "
        + Scenario.allCases.map(\.rawValue).joined(separator: "|") + " FOLDER")
  }
  try overMPI(Failure(scenario: scenario, subject: subject, folder: arguments[3]).run)
default:
  fail(
    "local-properties RANKS, local-layer RANKS, one-layer, properties, layer, traffic, crossing WAY, or "
      + "fail SUBJECT SCENARIO FOLDER")
}
