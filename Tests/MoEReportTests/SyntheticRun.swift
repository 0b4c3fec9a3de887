import Foundation
import MoECore

/// A run's folder that looks like one that training wrote, made from a seed.
struct SyntheticRun {
  var preset = "switch"
  var steps = 400
  /// E of each MoE layer; the layers are every second one from 1.
  var experts = [8, 8]
  var tokens = 4096
  var labels = ["de", "en", "es", "it", "pl", "pt", "ru"]
  /// Whether the capacity is zero, so that nothing reaches an expert.
  var allDropped = false
  /// How hard training was: a floor of the loss, in nats.
  var floor = 1.28
  var validateEvery = 40
  var sampleBytes = 420
  var generated: String? =
    "Die Stadt liegt an der Küste und war lange\nein Hafen. The committee agreed that the rule\n"
    + "should be read together with Article 9. Из этого\nследует, что город"
  var seed: UInt64 = 1

  var layers: [Int] { experts.indices.map { 2 * $0 + 1 } }

  /// Writes the folder's files.
  func write(to folder: URL) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    func write(_ text: String, _ name: String) throws {
      try Data(text.utf8).write(to: folder.appending(path: name))
    }
    var generator = SeededGenerator(seed: seed)
    try write(json(description), "run.json")
    try write(metrics(&generator).map { try json($0) + "\n" }.joined(), "metrics.jsonl")
    try write(json(routing(&generator)), "routing.json")
    if let generated { try write(generated, "sample.txt") }
  }

  /// The contents of `run.json`.
  var description: [String: Any] {
    let total = 1_310_720 + experts.reduce(0) { $0 + 132_000 * $1 }
    let active = 1_310_720 + 132_000 * experts.count
    return [
      "format": 1, "preset": preset, "seed": seed, "version": "0.1.0", "flops_per_token": 6 * active,
      "arguments": ["steps": "\(steps)"], "texts": ["text"],
      "model": [
        "layers": 2 * experts.count + 2, "hidden_size": 128, "feed_forward_size": 512, "heads": 4,
        "context": 256,
        "expert_layers": layers, "experts_per_token": 1, "capacity_factor": 1.25,
      ] as [String: Any],
      "training": [
        "steps": steps, "batch": 16, "learning_rate": 0.003, "warmup": 40, "auxiliary_coefficient": 0.01,
        "adam": ["beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8],
      ] as [String: Any],
      "data": [
        "files": labels.map {
          ["label": $0, "path": "text/\($0).txt", "train_bytes": 460_000, "validation_bytes": 24_000]
        },
        "train_bytes": 460_000 * labels.count, "validation_bytes": 24_000 * labels.count,
        "fingerprint": "5eed",
      ] as [String: Any],
      "parameters": ["total": total, "active_per_token": active, "experts": total - 1_310_720],
      "machine": ["cpu": "Example CPU 9", "isa": "avx512", "threads": 2] as [String: Any],
    ]
  }

  /// A line a step: the loss falls as a power, the load begins uneven and evens out.
  func metrics(_ generator: inout SeededGenerator) -> [[String: Any]] {
    let skews = experts.map { count in (0..<count).map { _ in Double(generator.normal()) } }
    var lines: [[String: Any]] = []
    for step in 1...steps {
      let fall = pow(1 + Double(step) / 12, -0.75)
      let loss = floor + (5.55 - floor) * fall + 0.035 * Double(generator.normal())
      let heat = 1.1 * exp(-Double(step) / 60) + 0.12
      let entries = experts.indices.map { index in
        entry(index, skews[index].map { exp($0 * heat + 0.06 * Double(generator.normal())) })
      }
      let seconds = 0.31 * (1 + 0.05 * abs(Double(generator.normal())))
      var line: [String: Any] = [
        "step": step, "tokens": tokens, "loss": loss, "auxiliary_loss": 0.0101,
        "learning_rate": 0.003 * min(1, Double(step) / 40),
        "gradient_norm": ["all": 1.2, "expert": 0.5, "other": 1.1], "seconds": seconds,
        "tokens_per_second": Double(tokens) / seconds,
        "stages": [
          "attention": 0.26 * seconds, "feed_forward": 0.17 * seconds, "moe": 0.38 * seconds,
          "head": 0.07 * seconds,
          "optimizer": 0.09 * seconds, "data": 0.004 * seconds,
        ], "layers": entries,
      ]
      if step % validateEvery == 0 || step == steps { line["validation_loss"] = loss + 0.05 }
      lines.append(line)
    }
    return lines
  }

  /// A layer's part of a line.
  private func entry(_ index: Int, _ weights: [Double]) -> [String: Any] {
    let total = weights.reduce(0, +)
    var load = weights.map { Int($0 / total * Double(tokens)) }
    load[0] += tokens - load.reduce(0, +)
    let capacity = Int(1.25 * Double(tokens) / Double(load.count))
    let dropped = allDropped ? tokens : load.reduce(0) { $0 + max(0, $1 - capacity) }
    let entropy = load.reduce(0.0) { sum, count in
      let share = Double(count) / Double(tokens)
      return share > 0 ? sum - share * log(share) : sum
    }
    return [
      "layer": layers[index], "load": load, "dropped": dropped, "entropy": entropy, "balance_loss": 0.0101,
      "z_loss": 0.0,
    ]
  }

  static let classes = ["letter", "upper", "digit", "space", "punctuation", "non-ascii"]

  /// Experts that prefer labels in the last layer, and kinds of characters in the others.
  func routing(_ generator: inout SeededGenerator) -> [String: Any] {
    func weights(_ count: Int, _ columns: Int, _ strength: Double) -> [[Double]] {
      (0..<count).map { _ in (0..<columns).map { _ in exp(strength * Double(generator.normal())) } }
    }
    func counts(_ weights: [[Double]], _ bytes: Int) -> [[Int]] {
      let totals = weights[0].indices.map { column in weights.reduce(0) { $0 + $1[column] } }
      return weights.map { row in
        row.enumerated().map { allDropped ? 0 : Int($1 / totals[$0] * Double(bytes)) }
      }
    }
    var byLabel: [[[Int]]] = []
    var byClass: [[[Int]]] = []
    var classWeights: [[[Double]]] = []
    for (index, count) in experts.enumerated() {
      let isLast = index == experts.count - 1
      byLabel.append(counts(weights(count, labels.count, isLast ? 1.0 : 0.2), 24_000))
      classWeights.append(weights(count, Self.classes.count, isLast ? 0.7 : 1.8))
      byClass.append(counts(classWeights[index], 28_000))
    }
    let samples = labels.indices.map { sample($0, classWeights, &generator) }
    return [
      "step": steps, "layers": layers, "experts": experts, "labels": labels, "classes": Self.classes,
      "by_label": byLabel, "by_class": byClass, "samples": samples,
    ]
  }

  private func sample(
    _ label: Int, _ weights: [[[Double]]], _ generator: inout SeededGenerator
  ) -> [String: Any] {
    let text = Self.texts[labels[label]] ?? Self.texts["en"]!
    let bytes = Array(repeating: Array(text.utf8), count: sampleBytes / text.utf8.count + 1).joined().prefix(
      sampleBytes)
    let kinds = bytes.map(Self.kind)
    let chosen = weights.map { rows in
      kinds.map { kind -> Int in
        if allDropped || generator.uniform() < 0.01 { return -1 }
        var left = Double(generator.uniform()) * rows.reduce(0) { $0 + pow($1[kind], 3) }
        return rows.firstIndex { row in
          left -= pow(row[kind], 3)
          return left <= 0
        } ?? rows.count - 1
      }
    }
    let loss = bytes.map { _ in abs(Double(generator.normal())) * 1.4 }
    return ["label": labels[label], "bytes": bytes.map(Int.init), "experts": chosen, "loss": loss]
  }

  private static func kind(_ byte: UInt8) -> Int {
    switch byte {
    case 0x61...0x7a: 0
    case 0x41...0x5a: 1
    case 0x30...0x39: 2
    case 0x20, 0x0a, 0x09: 3
    case 0x80...: 5
    default: 4
    }
  }

  private static let texts = [
    "de":
      "Die Verordnung vom 3. Mai 2011 gilt für alle Städte.\nÜber die Kosten wird jährlich neu entschieden; größere "
      + "Änderungen müssen begründet werden.\n",
    "en":
      "The regulation of 3 May 2011 applies to every town.\nCosts are decided anew each year; larger changes have to "
      + "be explained.\n",
    "es":
      "El reglamento de 3 de mayo de 2011 se aplica a todas las ciudades.\nLos gastos se deciden cada año; los "
      + "cambios mayores deberán explicarse.\n",
    "it":
      "Il regolamento del 3 maggio 2011 si applica a tutte le città.\nLe spese si decidono ogni anno; le modifiche "
      + "più ampie vanno spiegate.\n",
    "pl":
      "Rozporządzenie z 3 maja 2011 r. dotyczy wszystkich miast.\nO kosztach decyduje się co roku; większe zmiany "
      + "należy uzasadnić.\n",
    "pt":
      "O regulamento de 3 de maio de 2011 aplica-se a todas as cidades.\nAs despesas são decididas em cada ano; as "
      + "alterações maiores têm de ser explicadas.\n",
    "ru":
      "Постановление от 3 мая 2011 года касается всех городов.\nРасходы определяются каждый год заново; большие "
      + "изменения нужно объяснить.\n",
  ]
}

/// A JSON value on one line, members in alphabetic order.
func json(_ value: Any) throws -> String {
  String(decoding: try JSONSerialization.data(withJSONObject: value, options: [.sortedKeys]), as: UTF8.self)
}

/// Calls `body` with a new folder, and removes it.
func withTemporaryFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appending(path: "moe-report-\(UUID())")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder)
}
