import ArgumentParser
import Foundation
import MoE
import MoETraining

/// Trains a small language model on text.
struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Train a small Mixture-of-Experts language model on text.",
    discussion: """
      The model reads and writes bytes. RUN gets run.json, metrics.jsonl (a line a step), checkpoint.safetensors, \
      routing.json (which text went to which expert) and sample.txt. One block of 2 KiB in twenty is held out.

      A run that was interrupted, or killed at any moment, goes on with --resume, its own settings and the same \
      bits; only --steps may then be raised. Linear and cosine schedules stretch to the new last step.

      Examples:
        moe train --text books/de books/en --out run
        moe train --text en=shakespeare.txt --out run --preset deepseek --steps 2000
        moe train --out run --resume
      """)

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "UTF-8 files, or folders that are read recursively; a label is what a text counts as, without one its name.",
      valueName: "[label=]path"))
  var text: [String] = []
  @Option(help: "The folder of the run.") var out: String
  @Flag(help: "Continue the run in that folder.") var resume = false
  @OptionGroup(title: "Settings") var settings: TrainOptions
  @OptionGroup var options: ExecutionOptions

  func validate() throws {
    if resume { return }
    if text.isEmpty { throw ValidationError("--text is missing; it names the files or folders to train on") }
    let all = settings.resolved
    _ = try (all.model(), all.training())
  }

  func run() throws {
    let execution = try options.execution()
    let folder = RunFolder(out)
    let stored = try resume ? continued(folder) : nil
    let texts = try stored?.texts ?? text.map { argument in try TextCorpus.absolute(argument) }
    let corpus = try TextCorpus(texts)
    let description = try stored ?? begun(corpus, texts, execution)
    if description.data != RunDescription.Data(corpus) {
      throw TrainingError.run(
        path: out,
        "the text has changed since the run began: \(description.data.trainBytes) bytes to train on then, "
          + "\(corpus.trainBytes) now, or as many with another content or name")
    }
    let trainer = try Trainer(
      description, corpus: corpus, folder: folder, resumes: resume, execution: execution)
    let report = TrainReport(trainer, corpus, execution, out)
    report.begin(isResumed: resume)
    if trainer.step == trainer.description.training.steps {
      try trainer.writeSample()
      print("the run is at its last step, \(trainer.step), already; a higher --steps continues it")
      return
    }
    let interrupt = Interrupt()
    switch try trainer.run(shouldStop: { interrupt.isRequested }, report: report.show) {
    case .stopped:
      report.clear()
      print("stopped after step \(trainer.step); moe train --out \(out) --resume continues the run")
    case .finished:
      try trainer.writeSample()
      report.end()
    }
  }

  /// The description of a new run.
  private func begun(_ corpus: TextCorpus, _ texts: [String], _ execution: Execution) throws -> RunDescription
  {
    let all = settings.resolved
    return RunDescription(
      preset: all.preset!.rawValue, seed: all.seed!, model: try all.model(), training: try all.training(),
      corpus: corpus, machine: .init(cpu: InfoCommand.cpuName(), execution: execution), version: version,
      arguments: Dictionary(uniqueKeysWithValues: all.given.map { ($0.name, $0.value) }),
      texts: texts)
  }

  /// The description of the run in the folder, as far as the options agree with it.
  private func continued(_ folder: RunFolder) throws -> RunDescription {
    var description = try folder.description()
    for (name, value) in settings.given where name != "steps" {
      let stored = description.arguments[name] ?? "not set"
      if stored != value {
        throw TrainingError.run(
          path: out, "--\(name) is \(value), but the run was begun with \(stored); leave it out to continue")
      }
    }
    let texts = try text.map { argument in try TextCorpus.absolute(argument) }
    if !texts.isEmpty, texts != description.texts {
      throw TrainingError.run(
        path: out,
        "--text is \(texts.joined(separator: " ")), but the run was begun with "
          + "\(description.texts.joined(separator: " ")); leave it out to continue")
    }
    if let steps = settings.steps {
      if steps < description.training.steps {
        throw TrainingError.run(
          path: out,
          "--steps is \(steps), but the run was begun with \(description.training.steps); it may only be raised"
        )
      }
      description.training.steps = steps
      description.arguments["steps"] = "\(steps)"
    }
    return description
  }
}
