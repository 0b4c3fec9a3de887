#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Ranks as threads of one process.
///
/// ```swift
/// let sums = try LocalCommunicator.run(ranks: 4) { communicator in
///   try communicator.allReduce(communicator.rank, .sum, during: "example")
/// }    // [6, 6, 6, 6]
/// ```
public final class LocalCommunicator: Communicator {
  /// The ranks, and the operations under way between them.
  public let group: CommunicatorGroup

  private init(group: CommunicatorGroup) { self.group = group }

  /// Makes a communicator over other ranks of the process.
  public func communicator(over group: CommunicatorGroup) -> LocalCommunicator { .init(group: group) }

  /// The number of events that woke this rank.
  package var eventCount: Int { Int(group.engine.transport.mark()) }

  /// Ends the process.
  public func abort(code: Int32, after grace: Duration) -> Never { exit(code == 0 ? 1 : code) }

  /// Runs `body` once on each rank, each on a thread of its own, and waits for all.
  ///
  /// If a rank throws or returns while other ranks wait for it, their operations at once throw `.rankEnded`, which
  /// names that rank.
  ///
  /// The ranks share the processors: a layer without an `execution` computes with the rank's share of the threads, see
  /// ``Communicator/share(of:)``. A rank that waits for others sleeps, so there may be more ranks than processors.
  ///
  /// - Parameters:
  ///   - ranks: the number of ranks, at least 1.
  ///   - hosts: `[ranks]`: a number per rank; ranks with equal numbers count as ranks of one host. nil for one host.
  ///   - timeout: how long operations wait for other ranks.
  ///   - body: the work of a rank.
  /// - Returns: the results of the ranks, in order of rank.
  /// - Throws: the earliest error of all ranks; `CommunicationError.invalid` for fewer ranks than 1 or another number
  ///   of hosts than ranks; `.transport` if the system cannot start a thread.
  @discardableResult
  public static func run<Result: Sendable>(
    ranks: Int, hosts: [Int]? = nil, timeout: Duration = .seconds(60),
    _ body: @escaping @Sendable (LocalCommunicator) throws -> Result
  ) throws -> [Result] {
    guard ranks > 0 else {
      throw CommunicationError.invalid(
        operation: "start", during: "local ranks", "there are \(ranks) ranks, expected at least 1")
    }
    let hosts = hosts ?? Array(repeating: 0, count: ranks)
    guard hosts.count == ranks else {
      throw CommunicationError.invalid(
        operation: "start", during: "local ranks",
        "there are hosts of \(hosts.count) ranks, expected \(ranks)")
    }
    let world = LocalWorld(hosts: hosts)
    let runs = (0..<ranks).map { rank in
      RankRun<Result> {
        let transport = LocalTransport(rank: rank, world: world)
        let group = CommunicatorGroup(transport: transport, timeout: timeout)
        do {
          let result = try body(LocalCommunicator(group: group))
          world.end(rank, by: nil)
          return result
        } catch {
          world.end(rank, by: error)
          return nil
        }
      }
    }
    var threads: [pthread_t] = []
    for (rank, run) in runs.enumerated() {
      guard let thread = startThread(run.execute) else {
        let error = CommunicationError.transport(
          operation: "start", during: "local ranks", "the system has no thread for rank \(rank) of \(ranks)")
        for missing in rank..<ranks { world.end(missing, by: error) }
        break
      }
      threads.append(thread)
    }
    for thread in threads { pthread_join(thread, nil) }
    world.clear()
    if let error = world.firstError { throw error }
    return runs.map { $0.result! }
  }
}

/// The work of a rank, and its result after its thread has been joined.
///
/// `@unchecked Sendable`: only the rank's thread writes the result, and it is read after the join.
private final class RankRun<Result: Sendable>: @unchecked Sendable {
  private(set) var result: Result?
  private let body: @Sendable () -> Result?

  init(_ body: @escaping @Sendable () -> Result?) { self.body = body }

  @Sendable func execute() { result = body() }
}

/// Starts a thread with a stack of 8 MiB, as a main thread has.
private func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t? {
  final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  var attributes = pthread_attr_t()
  unsafe pthread_attr_init(&attributes)
  defer { unsafe pthread_attr_destroy(&attributes) }
  unsafe pthread_attr_setstacksize(&attributes, 8 << 20)
  let box = unsafe Unmanaged.passRetained(Box(body))
  #if canImport(Glibc)
    var thread = pthread_t()
    let code = unsafe pthread_create(
      &thread, &attributes,
      { context in
        unsafe Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
        return nil
      }, box.toOpaque())
    if code == 0 { return thread }
  #else
    var thread: pthread_t?
    let code = unsafe pthread_create(
      &thread, &attributes,
      { context in
        unsafe Unmanaged<Box>.fromOpaque(context).takeRetainedValue().body()
        return nil
      }, box.toOpaque())
    if code == 0 { return thread }
  #endif
  unsafe box.release()
  return nil
}
