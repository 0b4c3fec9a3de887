import ArgumentParser
import Foundation
import MoE
import MoETraining

/// Continues a text with a trained model.
struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate", abstract: "Continue a text with the model of a run.",
    discussion: """
      Prints the prompt and its continuation, byte by byte; bytes that are no UTF-8 become replacement characters, and \
      control characters are escaped. When the context is full, the model reads its last half again and goes on.

      Examples:
        moe generate run --prompt "Once upon a time"
        moe generate run --prompt "Es war einmal" --bytes 1000 --seed 7
      """)

  @Argument(help: "The folder of a run of moe train.") var folder: String
  @Option(help: "The text to continue (an empty line).") var prompt = ""
  @Option(help: "Bytes to draw.") var bytes = 400
  @Option(help: "Number that logits are divided by; 0 always takes the likeliest byte.") var temperature = 0.8
  @Option(help: "Draw only from the likeliest bytes whose probabilities sum to this.") var topP = 1.0
  @Option(help: "Seed of the draws.") var seed: UInt64 = 1
  @OptionGroup var options: ExecutionOptions

  func validate() throws {
    if bytes < 0 { throw ValidationError("--bytes is \(bytes), expected at least 0") }
    if !(temperature >= 0 && temperature.isFinite) {
      throw ValidationError("--temperature is \(temperature), expected at least 0")
    }
    if !(topP > 0 && topP <= 1) {
      throw ValidationError("--top-p is \(topP), expected more than 0, at most 1")
    }
    if temperature == 0, topP < 1 {
      throw ValidationError(
        "--temperature 0 always takes the likeliest byte, so --top-p has nothing to do; give one of both")
    }
  }

  func run() throws {
    let loaded = try LanguageModel.load(from: RunFolder(folder), execution: options.execution())
    if let note = loaded.note { StandardStream.errors.line("note: \(note)") }
    var generator = try TextGenerator(
      loaded.model, prompt: Array(prompt.utf8), sampling: Sampling(temperature: temperature, topP: topP),
      seed: seed)
    try show(prompt)
    var stream = TextStream()
    for _ in 0..<bytes { try show(stream.append(try generator.next())) }
    try show(stream.finish() + "\n")
  }

  /// Writes a text at once, so that it can be read while more is drawn.
  ///
  /// - Throws: ``OutputError``, which ends the drawing.
  private func show(_ text: String) throws {
    if text.isEmpty { return }
    StandardStream.output.text(text)
    try StandardStream.output.flush()
  }
}
