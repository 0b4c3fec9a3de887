import Foundation
import MoE
import MoECheckpoints
import MoECore
import MoEPlan
import MoEReport
import MoERun
import MoETraining

/// A file of ours, and the program's reader of it.
struct Document {
  var name: String
  var text: [UInt8]
  /// Reads the text, and computes all that is computed from it without training.
  var read: ([UInt8]) throws -> Void
}

/// A good document of each kind.
///
/// - Parameter folder: an empty folder in which files may be written.
func documents(in folder: URL) throws -> [Document] {
  let run = folder.appending(path: "run")
  try FileManager.default.createDirectory(at: run, withIntermediateDirectories: true)
  let files = ["run.json": try runDescription(folder), "metrics.jsonl": metrics, "routing.json": routing]
  for (name, text) in files { try Data(text.utf8).write(to: run.appending(path: name)) }
  func inFolder(_ name: String, _ read: @escaping (String) throws -> Void) -> Document {
    let file = run.appending(path: name)
    let whole = Data(files[name]!.utf8)
    return Document(name: name, text: Array(whole)) { bytes in
      try Data(bytes).write(to: file)
      defer { try? whole.write(to: file) }
      try read(run.path)
    }
  }
  func report(_ path: String) throws {
    let folder = try RecordedRun(path: path)
    _ = Report([folder]).html
    _ = RunSummary(folder)
  }
  let manifest = CheckpointManifest(
    step: 3, metadata: ["model": "{}"], files: [FileDigest(byteCount: 4096, sha256: Array(0..<32))],
    tensors: ["a": .init(shape: [4, 8], file: 0), "b": .init(shape: [1, 2], file: 0)])
  let cluster = try Cluster(
    hostCount: 2, ranksPerHost: 2, coresPerHost: 2, memory: 0x1p34, link: Link(latency: 5e-5, bandwidth: 1e9),
    intra: Link(latency: 2e-6, bandwidth: 1e10), rates: ComputeRates(flops: 1e11))
  return [
    inFolder("run.json") { _ = try RunFolder($0).description() },
    inFolder("run.json", report), inFolder("metrics.jsonl", report), inFolder("routing.json", report),
    Document(name: "manifest.json", text: Array(manifest.json.utf8)) {
      _ = try CheckpointManifest(parsing: $0, path: "manifest.json")
    },
    Document(name: "cluster.json", text: Array(cluster.json())) { bytes in
      let cluster = try Cluster(json: Data(bytes), path: "cluster.json")
      let model = try ModelShape(expertCount: 8, expertsPerToken: 2, hiddenSize: 64, feedForwardSize: 64)
      // A search over many ranks takes seconds.
      if cluster.rankCount > 64 { return }
      let planner = try Planner(
        model: model, workload: Workload(tokenCount: 256), cluster: cluster, load: .uniform)
      _ = try planner.search()
    },
  ]
}

private func runDescription(_ folder: URL) throws -> String {
  let text = folder.appending(path: "text.txt")
  try Data(String(repeating: "a line of a text\n", count: 400).utf8).write(to: text)
  let blocks = ModelPreset.switchTransformer.blocks(layerCount: 2, feedForwardSize: 64, expertCount: 4)
  let description = try TrainingDescription(
    preset: "switch", seed: 1,
    model: ModelConfiguration(contextLength: 32, hiddenSize: 32, headCount: 2, blocks: blocks),
    training: TrainingConfiguration(
      steps: 4, batchSize: 2, schedule: LearningRateSchedule(.cosine, peak: 0.001, warmupSteps: 1)),
    corpus: TextCorpus([text.path]), machine: .init(cpu: "a CPU", execution: .automatic()), version: "0",
    arguments: ["steps": "4"], texts: [text.path])
  let run = RunFolder(folder.appending(path: "new").path)
  try run.create()
  try run.write(description)
  return try String(contentsOfFile: run.path + "/run.json", encoding: .utf8)
}

private let metrics = (1...3).map { step in
  """
  {"auxiliary_loss":0.01,"format":1,"gradient_norm":{"all":1,"expert":0.5,"other":1},"layers":[{"balance_loss":0.01,\
  "dropped":1,"entropy":1.2,"layer":1,"load":[10,20,30,4],"z_loss":0}],"learning_rate":0.001,"loss":5.5,"seconds":0.1,\
  "stages":{"experts":0.05,"attention":0.01},"step":\(step),"tokens":\(64 * step),"tokens_per_second":640,\
  "validation_loss":5.4}

  """
}.joined()

private let routing = """
  {"format":1,"step":3,"layers":[1],"experts":[4],"labels":["text"],"classes":["letter","space"],\
  "by_label":[[[10],[20],[30],[4]]],"by_class":[[[5,5],[10,10],[20,10],[2,2]]],"samples":[{"label":"text",\
  "bytes":[97,32,195,164],"experts":[[0,1,-1,3]],"loss":[1.5,2.5,0.25,3]}]}
  """
