import Foundation
import MoEPlan
import Testing

/// Descriptions of clusters and models: what is read, and what is refused.
@Suite struct DescriptionTests {
  @Test func quantities() {
    #expect(Quantity.seconds("50us") == 50e-6 && Quantity.seconds("1.5ms") == 1.5e-3)
    #expect(Quantity.bytes("24GiB") == 24 * 0x1p30 && Quantity.bytes("4096") == 4096)
    #expect(Quantity.bandwidth("1gbit") == 125e6 && Quantity.bandwidth("10GB/s") == 1e10)
    #expect(Quantity.operations("250G") == 250e9)
    for text in ["", "-1s", "1", "s", "1e3s", "1 s", "0x10s", "1..5s", "nans", "99999999999999999999s"] {
      #expect(Quantity.seconds(text) == nil, "\(text)")
    }
    for text in ["10GB", "gbit", "-1gbit", "1gbps"] { #expect(Quantity.bandwidth(text) == nil, "\(text)") }
  }

  @Test func links() throws {
    #expect(try Link("1gbit:50us", name: "--link") == Link(latency: 50e-6, bandwidth: 125e6))
    for (text, part) in [
      ("1gbit", "--link is “1gbit”, expected a bandwidth and a latency"), ("1gbit:", "--link is"),
      ("0gbit:1us", "bandwidth of 0.0"), ("1gbit:1001s", "latency of 1001.0"), ("1gbit:1us:2us", "--link is"),
    ] {
      do {
        _ = try Link(text, name: "--link")
        Issue.record("\(text) was read")
      } catch {
        #expect("\(error)".contains(part), "\(error)")
      }
    }
  }

  @Test func clustersAsJSON() throws {
    var machines = try cluster(hosts: 3, ranks: 2)
    machines.rates.curve = [CurvePoint(hiddenSize: 1, feedForwardSize: 2, rows: 3, forward: 4, backward: 5)]
    #expect(try Cluster(json: machines.json(), path: "x.json") == machines)
    let text = String(decoding: machines.json(), as: UTF8.self)
    for (old, new, part) in [
      ("{", "[", "x.json: this is not JSON"),
      ("\"host_count\" : 3", "\"host_count\" : 0", "there are 0 hosts"),
      ("\"host_count\" : 3", "\"host_count\" : -3", "there are -3 hosts"),
      ("\"host_count\" : 3", "\"host_count\" : 65536", "131072 ranks"),
      ("\"host_count\" : 3", "\"host_count\" : \"3\"", "is not an integer"),
      ("\"flops\" : 1000000000", "\"flops\" : -1", "-1.0 operations"),
      ("\"rows\" : 3", "\"rows\" : 0", "0 rows"),
      ("\"forward\" : 4", "\"forward\" : 0", "rates of 0.0"),
      ("\"latency\" : 0\n", "\"latency\" : -1\n", "latency of -1.0"),
      ("\"memory_bandwidth\"", "\"memory\"", "is missing"),
      ("\"format\" : 1", "\"format\" : 2", "“format” is 2, expected 1: another version"),
    ] {
      do {
        let broken = text.replacing(old, with: new, maxReplacements: 1)
        #expect(broken != text, "\(old) is not in \(text)")
        _ = try Cluster(json: Data(broken.utf8), path: "x.json")
        if !part.contains("131072") { Issue.record("\(new) was read") }
      } catch {
        #expect("\(error)".contains(part), "\(error)")
      }
    }
    let before = text.replacing("\"format\" : 1,", with: "")
    #expect(before != text)
    #expect(try Cluster(json: Data(before.utf8), path: "x.json") == machines)
    #expect(throws: PlanError.self) { try Cluster(json: Data(), path: "x.json") }
    #expect(throws: PlanError.self) { try Cluster(json: Data([0xff, 0, 0x7b]), path: "x.json") }
  }

  @Test func modelsAndSteps() {
    func complaint(_ body: () throws -> Void) -> String {
      do { try body() } catch { return "\(error)" }
      return ""
    }
    #expect(complaint { _ = try model(experts: 0) }.contains("the number of experts is 0"))
    #expect(complaint { _ = try model(experts: 4, top: 5) }.contains("a token passes 5 of 4 experts"))
    #expect(complaint { _ = try model(hidden: -1) }.contains("the hidden size is -1"))
    #expect(complaint { _ = try model(layers: 0) }.contains("the number of layers is 0"))
    #expect(
      complaint { _ = try model(experts: 1 << 16, hidden: 1 << 20, inner: 1 << 20, layers: 1 << 12) }
        .contains("parameters, expected at most 10^16"))
    #expect(
      complaint { _ = try model(experts: 1 << 16, top: 1 << 15) }
        .contains("a token passes 32768 of 65536 experts, expected at most 64"))
    #expect(complaint { _ = try model(experts: 1 << 16, top: 64) }.isEmpty)
    #expect(
      complaint {
        _ = try Planner(
          model: model(experts: 1 << 16), workload: workload(tokens: 10), cluster: cluster(hosts: 2048),
          load: .uniform)
      }.contains("2048 ranks and 65536 experts"))
    for loads in [[1e300, 1e300], [0x1p53, 0x1p53]] {
      #expect(
        complaint { _ = try LoadTrace.measured([loads]).chances(expertCount: 2, expertsPerToken: 2) }
          .contains("choices, expected at most 2^53"))
    }
    for (change, part) in [
      ({ $0.link.bandwidth = 1e-300 }, "bandwidth of 1e-300 bytes/s, expected 1 to 10^18"),
      ({ $0.intra.bandwidth = 1e19 }, "bandwidth of 1e+19"),
      ({ $0.rates.flops = 1e-300 }, "1e-300 operations per second, expected 1 to 10^21"),
      ({ $0.rates.memoryBandwidth = 1e300 }, "1e+300 bytes per second of memory"),
      ({ $0.memory = .infinity }, "inf bytes of memory, expected 1 to 10^18"),
    ] as [((inout Cluster) -> Void, String)] {
      #expect(
        complaint {
          var machines = try cluster()
          change(&machines)
          try machines.validate()
        }.contains(part))
    }
    for (change, part) in [
      ({ $0.tokenCount = 0 }, "0 tokens"), ({ $0.capacityFactor = .nan }, "the capacity factor is nan"),
      ({ $0.capacityFactor = -1 }, "the capacity factor is -1"), ({ $0.payloadBytes = 3 }, "3 bytes"),
      ({ $0.sequenceLength = 0 }, "a sequence has 0 tokens"),
    ] as [((inout Workload) -> Void, String)] {
      var step = Workload(tokenCount: 10)
      change(&step)
      #expect(complaint { try step.validate() }.contains(part))
    }
  }
}
