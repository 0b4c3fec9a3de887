import ExpertParallel
import Foundation
import MoE
import MoERun
import MoETraining

/// Tells a person about a training: a header, how far it is, and a summary.
final class TrainReport {
  private let trainer: Trainer
  private let corpus: TextCorpus
  private let execution: Execution
  private let folder: String
  private let start = Date()
  private let firstStep: Int
  private let progressLine = ProgressLine()
  private var recent: [StepRecord] = []
  private var validationLoss: Double?

  init(_ trainer: Trainer, _ corpus: TextCorpus, _ execution: Execution, _ folder: String) {
    self.trainer = trainer
    self.corpus = corpus
    self.execution = execution
    self.folder = folder
    firstStep = trainer.step
  }

  private var steps: Int { trainer.description.training.steps }

  /// Prints the model, its text and the settings.
  func begin(isResumed: Bool) {
    let run = trainer.description
    let (model, training) = (run.model, run.training)
    if let note = trainer.note { warn("note: \(note)") }
    if isResumed, run.machine.isa != execution.instructionSet.rawValue {
      warn("note: the run was begun with \(run.machine.isa), so bits will differ from an uninterrupted run's")
    }
    line(
      "run",
      "\(run.preset), seed \(run.seed), \(isResumed ? "resumed at step \(firstStep)" : "new") in \(folder)")
    let experts = model.blocks.filter(\.isMoE).map { "\($0.expertCount)" }
    line(
      "model",
      "\(model.layerCount) layers, hidden \(model.hiddenSize), \(model.headCount) heads, context "
        + "\(model.contextLength), experts \(experts.isEmpty ? "none" : experts.joined(separator: " + "))")
    line(
      "size",
      "\(grouped(run.parameters.total)) parameters, \(grouped(run.parameters.activePerToken)) per byte, "
        + "\(grouped(run.parameters.experts)) in experts")
    let texts = corpus.texts.map { "\($0.label) \(grouped($0.train.count))" }.joined(separator: ", ")
    line("text", "bytes: \(texts); held out \(grouped(corpus.validationBytes))")
    for skipped in corpus.skipped.prefix(20) { line("left out", "\(skipped.path): \(skipped.reason)") }
    if corpus.skipped.count > 20 { line("left out", "… and \(corpus.skipped.count - 20) more") }
    if !trainer.heldOut.missing.isEmpty {
      let labels = trainer.heldOut.missing.joined(separator: ", ")
      line("no validation", "less than a context is held out of \(labels)")
    }
    line(
      "training",
      "\(training.optimizer.kind.rawValue), \(steps) steps of \(training.batchSize)×\(model.contextLength) bytes, "
        + "learning rate \(training.schedule.peak) \(training.schedule.shape.rawValue), \(training.precision), "
        + "\(execution.instructionSet), \(execution.threadCount) threads"
        + (trainer.ranks.map { ", \($0.communicator.size) ranks" } ?? ""))
    StandardStream.output.push()
  }

  /// Prints a sentence.
  func say(_ text: String) { StandardStream.output.remark(text) }

  /// Shows a step: as a line that changes in place, and where no terminal can do that, as a line for about every tenth of
  /// the steps.
  func show(_ metrics: StepRecord) {
    recent.append(metrics)
    if recent.count > max(1, min(100, steps / 10)) { recent.removeFirst() }
    if let loss = metrics.validationLoss { validationLoss = loss }
    if progressLine.isShown {
      progressLine.show(progress(metrics)) { bar(metrics.step, columns: $0) }
    } else if metrics.step * 10 / steps != (metrics.step - 1) * 10 / steps || metrics.validationLoss != nil {
      say(fitting(progress(metrics), into: columns(of: StandardStream.output)))
      StandardStream.output.push()
    }
  }

  /// Prints where experts were placed, a line per layer.
  func show(_ balance: Rebalancing) {
    clear()
    for layer in balance.layers {
      let stay = layer.hasChanged ? "" : "; experts stay, with \(layer.largestRows)"
      line("balance", "step \(balance.step), layer \(layer.layer): \(layer.solution)\(stay)")
    }
    if balance.movedBytes > 0 {
      line("balance", "step \(balance.step): \(grouped(balance.movedBytes)) bytes moved between ranks")
    }
  }

  /// Removes the line that changes.
  func clear() { progressLine.clear() }

  /// Prints where the run ended.
  func end() {
    clear()
    guard let last = recent.last else { return }
    let loss = validationLoss.map {
      "validation loss \(fixed($0, 4)) nats per byte (\(fixed($0 / log(2), 3)) bits), "
    }
    line("done", "step \(last.step), \(loss ?? "")training loss \(fixed(meanLoss, 4))")
    for (index, layer) in last.layers.enumerated() {
      let load = recent.dropFirst().reduce(recent[0].layers[index].load) { sum, metrics in
        zip(sum, metrics.layers[index].load).map(+)
      }
      let dropped = recent.reduce(0) { $0 + $1.layers[index].dropped }
      let share = 100 * Double(dropped) / Double(max(load.reduce(0, +), 1))
      line(
        "layer \(layer.layer)",
        "load \(sparkline(load)) varies by \(fixed(ExpertLoad.variation(load), 3)), \(fixed(share, 2)) % dropped"
      )
    }
    line("speed", "\(grouped(Int(tokensPerSecond))) tokens/s, \(duration(Date().timeIntervalSince(start)))")
    line("text", "moe generate \(folder) --prompt \"…\"")
  }

  private var meanLoss: Double { recent.reduce(0) { $0 + $1.loss } / Double(recent.count) }
  private var tokensPerSecond: Double {
    let seconds = recent.reduce(0) { $0 + $1.seconds }
    let bytes = trainer.description.training.batchSize * trainer.description.model.contextLength
    return Double(recent.count * bytes) / seconds
  }

  /// Returns what a step came to, in parts.
  private func progress(_ metrics: StepRecord) -> [String] {
    let done = metrics.step - firstStep
    let left = Date().timeIntervalSince(start) / Double(max(done, 1)) * Double(steps - metrics.step)
    let parts = [
      "\(metrics.step)/\(steps)", "loss \(fixed(metrics.loss, 3))",
      validationLoss.map { "validation \(fixed($0, 3))" },
      "\(grouped(Int(tokensPerSecond))) tokens/s", "\(duration(left)) left",
      metrics.layers.last.map { sparkline($0.load) },
    ]
    return parts.compactMap(\.self)
  }

  /// Returns a bar of at most 20 columns and a space, filled by the share of steps that are done; nothing where there is
  /// no room for a bar.
  private func bar(_ step: Int, columns: Int) -> String {
    let length = min(20, columns - 1)
    if length < 4 { return "" }
    let filled = step * length / steps
    return String(repeating: "━", count: filled) + String(repeating: "─", count: length - filled) + " "
  }

  private func line(_ name: String, _ text: String) {
    let name = printable(name)
    say("\(name.padding(toLength: max(10, name.count + 2), withPad: " ", startingAt: 0))\(text)")
  }

  private func warn(_ text: String) { StandardStream.errors.line(text) }
}

/// Returns a bar per expert, half high at an equal share and full at twice that.
func sparkline(_ load: [Int]) -> String {
  let mean = max(Double(load.reduce(0, +)) / Double(max(load.count, 1)), 1e-9)
  let bars = Array("▁▂▃▄▅▆▇█")
  return String(load.map { bars[min(7, max(0, Int((Double($0) / mean * 4).rounded()) - 1))] })
}

/// Returns a number with a thin gap between its thousands.
func grouped(_ value: Int) -> String {
  var text = ""
  for (index, digit) in String(value).reversed().enumerated() {
    if index > 0, index % 3 == 0, digit != "-" { text.append(" ") }
    text.append(digit)
  }
  return String(text.reversed())
}

/// Returns seconds as 42s, 3m07s or 2h05m.
func duration(_ seconds: Double) -> String {
  let whole = Int(seconds.rounded())
  func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
  if whole < 60 { return "\(whole)s" }
  return whole < 3600 ? "\(whole / 60)m\(two(whole % 60))s" : "\(whole / 3600)h\(two(whole % 3600 / 60))m"
}
