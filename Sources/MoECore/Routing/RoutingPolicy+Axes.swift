extension RoutingPolicy {
  /// The axes in the order of routing: each with its name and one phrase about its value.
  public var axes: [(name: String, value: String)] {
    [
      ("noise", "\(noise)"), ("logits", logitScale == 1 ? "as given" : "times \(logitScale)"),
      ("score", "\(scoring)"), ("assignment", "\(assignment)"),
      ("groups", groups.map { "\($0)" } ?? "no limit"), ("choice", "\(choice)"),
      ("normalisation", normalization == .none ? "none" : "\(normalization), \(normalizationTime)"),
      ("scale", "\(scale)"), ("capacity", capacity.map { "\($0)" } ?? "none: nothing is dropped"),
      ("weights", "multiply the expert's \(weightPlacement)"), ("loss", "\(loadBalance)"),
    ]
  }
}

extension RoutingPolicy.Noise: CustomStringConvertible {
  /// One phrase.
  public var description: String {
    var parts: [String] = []
    if inputJitter > 0 { parts.append("input times 1 ± \(inputJitter) in training") }
    if inputDropout > 0 { parts.append("input dropped with probability \(inputDropout) in training") }
    switch logits {
    case .none: break
    case .normal(let deviation): parts.append("logits plus \(deviation)/E times a normal number in training")
    case .uniform(let spread): parts.append("logits plus 1 ± \(spread) in training")
    case .learned: parts.append("logits plus learned noise in training")
    }
    return parts.isEmpty ? "none" : parts.joined(separator: ", ")
  }
}

extension RoutingPolicy.Scoring: CustomStringConvertible {
  /// One phrase.
  public var description: String {
    switch self {
    case .softmax: "softmax over all experts, then the choice"
    case .sigmoid: "sigmoid, then the choice"
    case .squareRootSoftplus: "√softplus, then the choice"
    case .softmaxOverSelected: "the choice by logits, then softmax over the chosen"
    case .sigmoidOfSelected: "the choice by logits, then the sigmoid of each chosen logit"
    case .sparseMixer(let jitter): "SparseMixer with jitter \(jitter)"
    }
  }
}

extension RoutingPolicy.Assignment: CustomStringConvertible {
  /// One phrase.
  public var description: String {
    switch self {
    case .tokenChoice: "tokens choose experts"
    case .expertChoice(.softmaxOverExperts): "experts choose tokens by the softmax over experts"
    case .expertChoice(.softmaxOverTokens): "experts choose tokens by the softmax over tokens"
    case .hash: "a token's id tells its expert"
    case .sinkhorn: "a doubly normalised plan chooses in training, tokens at evaluation"
    case .balanced: "an auction gives every expert an equal number of tokens in training"
    case .soft(let slots): "each expert computes \(slots) means of all tokens"
    }
  }
}

extension RoutingPolicy.GroupLimit: CustomStringConvertible {
  /// One phrase.
  public var description: String {
    let best =
      switch score {
      case .maximum: "best expert"
      case .topTwoSum: "two best experts' sum"
      case .sum(let count): "\(count) best experts' sum"
      }
    let outside = mask == .zero ? "0" : "−∞"
    return "\(selected) of \(count) groups by their \(best), experts outside score \(outside)"
  }
}

extension RoutingPolicy.Choice: CustomStringConvertible {
  /// One phrase.
  public var description: String {
    let first =
      switch self.first {
      case .best: "the best experts"
      case .sampled: "the first expert drawn by softmax in training"
      case .sampledWithTemperature(let temperature):
        "the first expert drawn at temperature \(temperature) in training"
      }
    let second =
      switch self.second {
      case .best: ""
      case .sampled: ", the second drawn with Gumbel noise"
      case .random(let threshold): ", the second kept with probability weight/\(threshold)"
      case .randomAfterDropping(let threshold):
        ", the second kept with probability weight/\(threshold) after dropping"
      case .above(let threshold): ", the second kept if its weight is above \(threshold)"
      }
    return first + second
  }
}

extension RoutingPolicy.Normalization: CustomStringConvertible {
  /// One phrase.
  public var description: String {
    switch self {
    case .none: "none"
    case .sum(plus: 0): "over their sum"
    case .sum(plus: let term): "over their sum plus \(term)"
    case .sumAtLeast(let floor): "over their sum, at least \(floor)"
    case .norm(let power): "over their \(power)-norm"
    }
  }
}

extension RoutingPolicy.NormalizationTime: CustomStringConvertible {
  /// One phrase.
  public var description: String { self == .beforeDropping ? "before dropping" : "after dropping" }
}

extension RoutingPolicy.Capacity: CustomStringConvertible {
  /// One phrase.
  public var description: String {
    let order =
      switch priority {
      case .choiceThenToken: "first choices first, in token order"
      case .tokenThenChoice: "in token order"
      case .weight: "largest weight first"
      case .gate: "largest score first"
      case .random: "in random order"
      case .batchPrioritized: "first choices first, best tokens first"
      case .nextChoice: "a dropped token tries its next expert"
      }
    let tokens =
      switch scope {
      case .batch: "all tokens"
      case .sequence: "a sequence"
      case .group(let size): "\(size) tokens"
      }
    return "\(rule) of \(tokens), \(order)"
  }
}

extension RoutingPolicy.WeightPlacement: CustomStringConvertible {
  /// One word.
  public var description: String { self == .output ? "output" : "input" }
}

extension RoutingPolicy.LoadBalance: CustomStringConvertible {
  /// One phrase.
  public var description: String {
    switch choices {
    case .none: "none"
    case .first: "E·Σ f·P, f of first choices"
    case .all: "E·Σ f·P, f of all choices over k"
    case .best: "E·Σ f·P, f of the best scores over k"
    case .every: "E·Σ f·P, f of all choices"
    case .everyBest: "E·Σ f·P, f of the best scores"
    case .kept: "E·Σ f·P, f of kept choices"
    }
  }
}

extension CapacityRule: CustomStringConvertible {
  /// The formula, with S for tokens and E for experts.
  public var description: String {
    switch self {
    case .unlimited: "no limit"
    case .fixed(let rows): "\(rows)"
    case .exact(let numerator, let denominator, let minimum):
      "max(⌈k·S·\(numerator)/(E·\(denominator))⌉, \(minimum))"
    case .meshTensorFlow(let factor, let minimum): "max(min(S, ⌊S·\(factor)/E⌋), \(minimum))"
    case .lingvo(let factor, let minimum): "⌊S·\(factor)/E⌋ or \(minimum), up to a multiple of 4"
    case .flaxformer(let factor, let minimum): "max(round(\(factor)·S/E), \(minimum))"
    case .deepSpeed(let factor, let minimum): "max(⌈S/E·k·\(factor)⌉ in fp32, \(minimum))"
    case .megatron(let factor): "⌈S·k/E·\(factor)⌉"
    case .tutel(let factor): "k·⌊\(factor)·⌈S/E⌉⌋"
    case .megaBlocks(let factor): "⌊\(factor)·k·S/E⌋"
    case .fastMoESwitch(let factor): "⌈\(factor)·S/E⌉"
    case .fastMoEGShard(let factor): "⌊⌈\(factor)·S⌉·k/E⌋"
    case .vmoe(let factor): "⌈S·k·\(factor)/E⌉, up to a multiple of 4"
    case .nllb(let fraction): "⌈\(fraction)·S⌉"
    }
  }
}
