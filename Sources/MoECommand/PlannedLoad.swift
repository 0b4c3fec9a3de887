import ArgumentParser
import Foundation
import MoECheckpoints
import MoEPlan
import MoEReport
import MoERun

extension LoadTrace {
  /// Reads the value of `--load`: `uniform`, `zipf:1.2`, a run's folder or its metrics.jsonl, or a file of
  /// `moe route --output`.
  ///
  /// - Throws: `ValidationError` for a text that is none of these, and the errors of the files' readers.
  static func read(_ text: String, seed: UInt64) throws -> LoadTrace {
    if text == "uniform" { return .uniform }
    if text.hasPrefix("zipf:") {
      guard let exponent = Double(text.dropFirst(5)), (0...10).contains(exponent) else {
        throw ValidationError("--load is “\(text)”, expected an exponent of 0 to 10 such as zipf:1.2")
      }
      return .zipf(exponent: exponent, seed: seed)
    }
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: text, isDirectory: &isFolder) else {
      throw ValidationError("--load is “\(text)”, expected uniform, zipf:1.2, or a file or run that exists")
    }
    if text.hasSuffix(".safetensors") {
      let file = try SafetensorsFile(path: text)
      try file.require("counts")
      return .measured([try file.integers(named: "counts").map(Double.init)])
    }
    let path = isFolder.boolValue ? URL(filePath: text).appending(path: RunFiles.metrics).path : text
    let metrics = Data(try contents(ofFile: path, atMost: Int(Int32.max)))
    // A longer run would go on with the routers of the last steps, so only their loads count.
    let steps = try MetricsLog(metrics, path: path).steps.suffix(100)
    let layers = steps.last!.layers.indices.map { layer in
      steps.reduce(into: steps.last!.layers[layer].load.map { _ in 0.0 }) { sum, step in
        for (expert, load) in step.layers[layer].load.enumerated() { sum[expert] += Double(load) }
      }
    }
    if layers.isEmpty { throw PlanError("\(path): the run has no layer with experts") }
    return .measured(layers)
  }
}
