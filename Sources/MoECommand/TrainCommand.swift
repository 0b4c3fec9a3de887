import ArgumentParser
import ExpertParallel
import Foundation
import MoE
import MoERun
import MoETraining

/// Trains a small language model on text.
struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Train a small Mixture-of-Experts language model on text.",
    discussion: """
      The model reads and writes bytes. RUN gets run.json, metrics.jsonl (a line per step), checkpoint.safetensors, \
      routing.json (which text went to which expert) and sample.txt. One block of 2 KiB in twenty is held out.

      SIGINT (Ctrl-C), SIGTERM and SIGHUP end a run with a checkpoint; a second SIGINT or SIGTERM ends it at once. \
      --resume continues a run that was interrupted or killed, with its own settings and the same bits; only --steps \
      may then be raised. Linear and cosine schedules stretch to the new last step.

      Several ranks train one model: each has its part of the batch and of the experts. Ranks are threads of this process \
      (--ranks), or processes of mpirun (--mpi) on machines that all see RUN and the text at the same path. With exact \
      sums the number of ranks changes no bit, and --resume may change it. Their checkpoints are folders, \
      checkpoint-STEP, with a file per rank.

      Examples:
        moe train --text books/de books/en --out run
        moe train --text en=shakespeare.txt --out run --preset deepseek --steps 2000
        moe train --out run --resume
        moe train --text books --out run --experts 64 --ranks 4
        mpirun -n 4 moe train --text books --out run --mpi --expert-parallel 2
      """)

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      """
      UTF-8 files, or folders that are read recursively. A label names a text in metrics and report; without one it is \
      the file's or folder's name. An argument that is the path of a file or folder is that path, also where it has an \
      equals sign.
      """,
      valueName: "[label=]path"))
  var text: [String] = []
  @Option(help: "The folder of the run.") var out: String
  @Flag(help: "Continue the run in the folder --out.") var resume = false
  @OptionGroup(title: "Settings") var settings: TrainOptions
  @OptionGroup(title: "Ranks") var rankOptions: RankOptions
  @OptionGroup var options: ExecutionOptions

  func validate() throws {
    if resume { return }
    if text.isEmpty { throw ValidationError("--text is missing; it names the files or folders to train on") }
    let all = settings.resolved
    _ = try (all.model(), all.training())
  }

  func run() throws {
    let execution = try options.execution()
    // Over MPI every process reads run and text; local ranks share what was read.
    let prepared = rankOptions.mpi ? nil : try prepared(execution)
    let command = self
    let given = (resume ? settings : settings.resolved).given.map { SharedFact("--\($0.name)", $0.value) }
    try rankOptions.run(
      "moe train", execution, threads: options.threads,
      options: given + [SharedFact("--resume", resume ? "given" : "not given"), SharedFact("--out", out)]
    ) { communicator, part in
      let (description, corpus) = try prepared ?? command.prepared(execution)
      let ranks = try communicator.map {
        try command.rankOptions.ranks($0, stored: description.gradientSum)
      }
      try command.train(description, corpus, ranks, part)
    }
  }

  /// Returns the run, new or continued, and its text.
  private func prepared(_ execution: Execution) throws -> (TrainingDescription, TextCorpus) {
    let folder = RunFolder(out)
    let stored = try resume ? continued(folder) : nil
    let texts = try stored?.texts ?? text.map { argument in try TextCorpus.absolute(argument) }
    let corpus = try TextCorpus(texts, leavingOut: out)
    var description = try stored ?? begun(corpus, texts, execution)
    if let given = rankOptions.gradientSum { description.gradientSum = given.rawValue }
    if let change = description.data.change(to: TrainingData(corpus)) {
      throw TrainingError.run(path: out, "the text has changed since the run began: \(change)")
    }
    return (description, corpus)
  }

  /// Trains on one rank; the first of several prints.
  private func train(
    _ description: TrainingDescription, _ corpus: TextCorpus, _ ranks: Ranks?, _ execution: Execution
  ) throws {
    let trainer = try Trainer(
      description, corpus: corpus, folder: RunFolder(out), resumes: resume, over: ranks, execution: execution)
    let report =
      ranks?.isFirst ?? true ? TrainReport(trainer, corpus, try options.execution(), out) : nil
    report?.begin(isResumed: resume)
    if trainer.step == trainer.description.training.steps {
      try trainer.writeSample()
      report?.say("the run is at its last step, \(trainer.step), already; a higher --steps continues it")
      return
    }
    let shouldStop = Self.interruption(ranks)
    switch try trainer.run(
      shouldStop: shouldStop, report: { report?.show($0) },
      reportBalance: { report?.show($0) })
    {
    case .stopped:
      report?.clear()
      report?.say("stopped after step \(trainer.step); moe train --out \(out) --resume continues the run")
    case .finished:
      try trainer.writeSample()
      report?.end()
    }
  }

  /// Returns whether a signal asked this rank to end; of local ranks the first listens for all.
  private static func interruption(_ ranks: Ranks?) -> () -> Bool {
    guard let communicator = ranks?.communicator else {
      let interrupt = Interrupt()
      return { interrupt.isRequested }
    }
    if communicator is LocalCommunicator {
      let interrupt = communicator.rank == 0 ? Interrupt() : nil
      return { interrupt?.isRequested ?? false }
    }
    // SIGTERM is also how mpirun ends the ranks that outlive another one, so the communicator takes note of it.
    let interrupt = Interrupt(communicator.size == 1 ? [SIGINT, SIGTERM, SIGHUP] : [SIGINT, SIGHUP])
    return { interrupt.isRequested || communicator.isEnding }
  }

  /// Returns the description of a new run.
  private func begun(_ corpus: TextCorpus, _ texts: [String], _ execution: Execution) throws
    -> TrainingDescription
  {
    let all = settings.resolved
    return TrainingDescription(
      preset: all.preset!.rawValue, seed: all.seed!, model: try all.model(), training: try all.training(),
      corpus: corpus,
      machine: .init(cpu: InfoCommand.cpuName(), execution: execution, ranks: rankOptions.ranks),
      version: version,
      arguments: Dictionary(uniqueKeysWithValues: all.given.map { ($0.name, $0.value) }),
      texts: texts)
  }

  /// Returns the description of the run in the folder.
  ///
  /// - Throws: `TrainingError` for an option that contradicts it.
  private func continued(_ folder: RunFolder) throws -> TrainingDescription {
    var description = try folder.description()
    if let sum = description.gradientSum, GradientSumOption(rawValue: sum) == nil {
      throw TrainingError.run(path: out, "run.json has the gradient_sum “\(sum)”, expected exact or reduced")
    }
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
