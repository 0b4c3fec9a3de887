import ArgumentParser
import ExpertParallel
import MoE

/// `moe-bench exchange`
struct ExchangeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exchange",
    abstract: "Times a layer over the ranks of mpirun, and how much of its exchange overlap hides.",
    discussion: """
      Medians over rounds in which every contender has a turn, of the slowest rank. The hidden share is (exchange + \
      experts − pass) / min(exchange, experts), so all that a pass does besides counts against it. The layer on \
      MPI_Alltoallv blocks, sends a row for each choice and is given its routing. Every rank's tokens are routed evenly.

      Examples: mpirun -n 2 moe-bench exchange --slices 1,2,4; on shaped links: bench/hosts.sh
      """)

  @Option(help: "The hidden size.") var hidden = 1024
  @Option(help: "The feed-forward size of an expert.") var ffn = 512
  @Option(help: "Experts, a multiple of the ranks.") var experts = 8
  @Option(help: "Tokens of a rank, a multiple of E·(E − 1).") var tokens = 1120
  @Option(help: "Degrees of overlap beside the automatic one, separated by commas.")
  var slices = CommaList([1, 2, 4])
  @Option(help: "Rounds that are counted.") var rounds = 5
  @Option(help: "What the table calls the links.") var links = "this host"
  @Option(help: "Threads of a rank.") var threads = 1
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    if hidden % 32 != 0 || ffn % 32 != 0 || hidden < experts || hidden <= 0 || ffn <= 0 {
      throw ValidationError("--hidden is \(hidden) and --ffn \(ffn), expected multiples of 32")
    }
    if experts < 2 || tokens <= 0 || tokens % (experts * (experts - 1)) != 0 {
      throw ValidationError(
        "--tokens is \(tokens), expected a multiple of \(experts * (experts - 1)), all pairs of \(experts) experts"
      )
    }
    if rounds < 1 || slices.elements.contains(where: { $0 < 1 }) || !(1...1024).contains(threads) {
      throw ValidationError("--rounds, --slices and --threads begin at 1")
    }
  }

  func run() throws {
    #if MPI
      let communicator = try MPICommunicator.world()
      do {
        try measure(communicator)
      } catch {
        printError("rank \(communicator.rank): \(error)")
        communicator.abort(code: 1)
      }
    #else
      throw CommunicationError.unavailable(
        "this moe-bench was built without MPI; build it with: swift build -c release --traits MPI")
    #endif
  }

  private func measure(_ communicator: any Communicator) throws {
    guard communicator.size > 1, experts % communicator.size == 0 else {
      throw CheckFailure(
        description:
          "\(experts) experts on \(communicator.size) ranks, expected a multiple of two or more ranks")
    }
    let shape = Shape(
      name: "D\(hidden) F\(ffn) E\(experts) T\(tokens)", hiddenSize: hidden, feedForwardSize: ffn,
      expertCount: experts, expertsPerToken: 2, isGated: true)
    let bench = try ExchangeBench(
      BalancedProblem(shape: shape, tokenCount: tokens, rank: communicator.rank), slices: slices.elements,
      execution: Execution(threadCount: threads), over: communicator)
    try bench.run(rounds: rounds)
    guard communicator.rank == 0 else { return }
    let rows = ExchangeRow.rows(
      of: bench.contenders, links: links, hosts: Set(communicator.hosts).count,
      ranks: communicator.size,
      problem: shape.name)
    if json { return try printJSON(rows) }
    printLine(ExchangeRow.header)
    for row in rows { printLine(row.line) }
  }
}

/// One contender's figures.
struct ExchangeRow: Encodable {
  let links: String
  let hosts: Int
  let ranks: Int
  let problem: String
  let contender: String
  let rounds: Int
  let medianMilliseconds: Double
  let minimumMilliseconds: Double
  /// The hidden share of the shorter of exchange and experts; nil if the row is one of these or has a backward pass.
  let hiddenShare: Double?

  static func rows(
    of contenders: [ExchangeBench.Contender], links: String, hosts: Int, ranks: Int, problem: String
  ) -> [ExchangeRow] {
    let (exchange, experts) = (contenders[0].seconds.median, contenders[1].seconds.median)
    return contenders.enumerated().map { index, contender in
      let median = contender.seconds.median
      let isForward = index > 1 && !contender.name.hasSuffix("backward too")
      return ExchangeRow(
        links: links, hosts: hosts, ranks: ranks, problem: problem, contender: contender.name,
        rounds: contender.seconds.count, medianMilliseconds: median * 1e3,
        minimumMilliseconds: contender.seconds.min()! * 1e3,
        hiddenShare: isForward ? (exchange + experts - median) / min(exchange, experts) : nil)
    }
  }

  static let header = [
    "links".padded(10), "hosts", "ranks", "problem".padded(22), "contender".padded(24), " median ms",
    "    min ms",
    " hidden",
  ].joined(separator: " ")

  var line: String {
    [
      links.padded(10), fixed(Double(hosts), 0, width: 5), fixed(Double(ranks), 0, width: 5),
      problem.padded(22),
      contender.padded(24), fixed(medianMilliseconds, 2, width: 10), fixed(minimumMilliseconds, 2, width: 10),
      hiddenShare.map { fixed(100 * $0, 0, width: 5) + " %" } ?? "      –",
    ].joined(separator: " ")
  }
}
