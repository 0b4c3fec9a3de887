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
