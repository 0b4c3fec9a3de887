internal import Foundation
public import MoE

/// Generates the bytes with which a model continues a prompt.
public struct TextGenerator {
  private let model: LanguageModel
  private let sampling: Sampling
  private var decoder: Decoder
  private var random: SeededGenerator
  /// The bytes that the decoder has read.
  private var context: [UInt8]
  private var logits: [Float]

  /// Reads the prompt, or only its end where the prompt is longer than the context.
  ///
  /// - Parameters:
  ///   - model: the model that writes.
  ///   - prompt: the beginning of the text; if it is empty, a newline stands for it.
  ///   - sampling: how a byte is drawn.
  ///   - seed: the seed of the draws.
  /// - Throws: `MoEError` where memory is missing or the model is not finite.
  public init(
    _ model: LanguageModel, prompt: [UInt8], sampling: Sampling = Sampling(), seed: UInt64
  ) throws {
    self.model = model
    self.sampling = sampling
    random = SeededGenerator(seed: seed)
    decoder = try model.makeDecoder()
    context = []
    logits = []
    let limit = model.configuration.contextLength
    let prompt = prompt.isEmpty ? [UInt8(ascii: "\n")] : prompt
    for byte in prompt.count <= limit ? prompt : prompt.suffix(max(1, limit / 2)) { try read(byte) }
  }

  /// Returns the next byte.
  public mutating func next() throws -> UInt8 {
    let byte = sampling.draw(from: logits, &random)
    if context.count == model.configuration.contextLength {
      let kept = context.suffix(model.configuration.contextLength / 2)
      decoder = try model.makeDecoder()
      context = []
      for old in kept { try read(old) }
    }
    try read(byte)
    return byte
  }

  private mutating func read(_ byte: UInt8) throws {
    logits = try decoder.logits(after: byte)
    context.append(byte)
  }
}

/// The rule by which a byte is drawn from logits.
public struct Sampling: Sendable, Equatable {
  /// The divisor of the logits; 0 takes the byte with the largest logit.
  public var temperature: Double
  /// The smallest probability that the candidates must have together. Likelier bytes become candidates first
  /// (Holtzman et al. 2020).
  public var topP: Double

  /// Makes a rule.
  public init(temperature: Double = 0.8, topP: Double = 1) {
    self.temperature = temperature
    self.topP = topP
  }

  /// Draws an index. Equal logits are ordered by index, the lower one first.
  public func draw(from logits: [Float], _ random: inout SeededGenerator) -> UInt8 {
    let order = logits.indices.sorted { (-logits[$0], $0) < (-logits[$1], $1) }
    if temperature == 0 { return UInt8(order[0]) }
    let largest = Double(logits[order[0]])
    let weights = order.map { exp((Double(logits[$0]) - largest) / temperature) }
    let total = weights.reduce(0, +)
    var (count, sum) = (0, 0.0)
    while count < weights.count, count == 0 || sum < topP * total {
      sum += weights[count]
      count += 1
    }
    var place = Double(random.next() >> 11) * 0x1p-53 * sum
    for index in 0..<count {
      place -= weights[index]
      if place < 0 { return UInt8(order[index]) }
    }
    return UInt8(order[count - 1])
  }
}
