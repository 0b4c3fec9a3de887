import Foundation
import Testing

/// Variables of the environment: used, or refused with a sentence, before the OpenMP runtime sees them.
@Suite struct EnvironmentTests {
  private func threads(_ environment: [String: String], _ options: String...) throws -> Int? {
    let run = try moe(["info"] + options, environment: environment)
    expectSuccess(run)
    return run.output.firstMatch(of: /threads +([0-9]+)\n/).flatMap { Int($0.1) }
  }

  @Test func valuesThatAreUsed() throws {
    let usual = try #require(try threads([:]))
    for (value, count) in [
      ("", usual), (" ", usual), ("3", 3), (" 5 ", 5), ("4,2", 4), ("4 , 2", 4), ("1024", 1024),
    ] {
      #expect(try threads(["OMP_NUM_THREADS": value]) == count, "“\(value)”")
    }
    #expect(try threads(["OMP_NUM_THREADS": "8", "OMP_THREAD_LIMIT": "3"]) == 3)
    #expect(try threads(["OMP_THREAD_LIMIT": "1"]) == 1)
    #expect(try threads(["OMP_THREAD_LIMIT": ""]) == usual)
    #expect(try threads(["OMP_THREAD_LIMIT": "99999999999999999999"]) == usual)
    #expect(try threads(["KMP_ALL_THREADS": "1"]) == 1)
    #expect(try threads(["MOE_ISA": ""]) == usual)
    #expect(try threads(["OMP_NUM_THREADS": "abc"], "--threads", "2") == 2, "it is not asked")
  }

  @Test(arguments: [
    ("OMP_NUM_THREADS", "abc"), ("OMP_NUM_THREADS", "0"), ("OMP_NUM_THREADS", "-1"),
    ("OMP_NUM_THREADS", "4,,2"),
    ("OMP_NUM_THREADS", "4,abc"), ("OMP_NUM_THREADS", "1025"), ("OMP_NUM_THREADS", "99999999999999999999"),
    ("OMP_NUM_THREADS", "{"), ("OMP_NUM_THREADS", "1.5"), ("OMP_THREAD_LIMIT", "abc"),
    ("OMP_THREAD_LIMIT", "0"),
    ("KMP_DEVICE_THREAD_LIMIT", "x"), ("OMP_STACKSIZE", "99999999999999999999"), ("OMP_STACKSIZE", "100G"),
    ("OMP_STACKSIZE", "1"), ("GOMP_STACKSIZE", "8T"), ("KMP_STACKSIZE", "x"), ("GOMP_CPU_AFFINITY", "4,,2"),
    ("GOMP_CPU_AFFINITY", "{0}:99999"), ("MOE_ISA", "nonsense"),
  ])
  func valuesThatAreRefused(name: String, value: String) throws {
    for command in [["info"], ["check", "--isa", "scalar"], ["route", "x", "--policy", "switch"]] {
      if name == "MOE_ISA", command.contains("--isa") { continue }
      expectFailure(try moe(command, environment: [name: value]), saying: [name, value, "expected"])
    }
  }

  @Test(arguments: [
    ["OMP_NUM_THREADS": ""], ["OMP_NUM_THREADS": "4,2"], ["OMP_STACKSIZE": "256K"],
    ["GOMP_CPU_AFFINITY": "0"],
    ["OMP_THREAD_LIMIT": "1"], ["KMP_ALL_THREADS": "1"],
  ])
  func kernelsRun(environment: [String: String]) throws {
    let run = try moe(["check", "--isa", "scalar"], environment: environment)
    #expect(run.status == 0 && run.output.hasSuffix("all within bounds\n"), "\(run)")
  }

  @Test func moreThreadsThanTheLimitAreRefused() throws {
    expectFailure(
      try moe(["info", "--threads", "3"], environment: ["OMP_THREAD_LIMIT": "2"]),
      saying: ["the number of threads is 3, but OMP_THREAD_LIMIT allows 2"])
  }

  @Test func affinityCounts() throws {
    try withTemporaryFolder { folder in
      let run = try shell("taskset -c 0 \"$MOE\" info", in: folder)
      #expect(run.output.contains("threads  1\n"), "\(run)")
    }
  }
}
