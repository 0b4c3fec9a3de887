import CKernels
import Foundation
import Testing

/// The processors that control groups leave to a process.
@Suite struct ProcessorCountTests {
  private func count(_ membership: String, _ files: [String: String]) throws -> Int32 {
    let folder = FileManager.default.temporaryDirectory.appending(path: "moe-groups-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    for (name, text) in files.merging(["membership": membership], uniquingKeysWith: { $1 }) {
      let file = folder.appending(path: name)
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: file)
    }
    return unsafe moe_processors_of_groups(folder.appending(path: "membership").path, folder.path)
  }

  @Test func quotaIsRoundedUp() throws {
    for (quota, expected) in [
      ("max 100000", Int32.max), ("100000 100000", 1), ("150000 100000", 2), ("1000 100000", 1),
      ("400000 100000", 4), ("-1 100000", .max), ("nonsense", .max), ("", .max), ("5 0", .max),
    ] {
      #expect(try count("0::/a/b\n", ["a/b/cpu.max": quota + "\n"]) == expected, "\(quota)")
    }
  }

  @Test func groupsAroundCount() throws {
    let files = ["cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n", "a/b/cpu.max": "300000 100000\n"]
    #expect(try count("0::/a/b\n", files) == 2)
    #expect(try count("0::/\n", ["cpu.max": "300000 100000\n"]) == 3)
    #expect(try count("0::/gone/away\n", ["cpu.max": "300000 100000\n"]) == 3, "the path of a host")
  }

  @Test func version1Counts() throws {
    let membership = "3:memory:/m\n2:cpu,cpuacct:/a\n1:cpuset:/a\n0::/\n"
    let files = ["cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"]
    #expect(try count(membership, files) == 3)
    #expect(
      try count(membership, ["cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "1\n"]) == .max)
    #expect(try count("", [:]) == .max)
  }
}
