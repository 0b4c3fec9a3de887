internal import MoECore

/// One rank's header of a pass: every rank gathers the headers of all ranks before any row travels.
///
/// The fields are integers of one size, so that the bytes of a header have no gaps and every bit pattern is a value.
struct RankHeader: BitwiseCopyable {
  /// The number of the rank's tokens, t.
  var tokenCount: Int
  /// The number of tokens per sequence of the batch.
  var sequenceLength: Int
  /// The first token of the rank with a router logit that is NaN or infinite; −1 if there is none.
  var nonFiniteLogit: Int
  /// The first token of the rank with a gate logit of the dense branch that is NaN or infinite; −1 if there is none.
  var nonFiniteGate: Int
  /// The number of slices that this rank proposes; the ranks take the largest proposal.
  var sliceCount: Int
}

/// A token that cannot be routed, by its index among the tokens of its rank.
///
/// The rank does not throw at once: it first tells all other ranks by its ``RankHeader``, and then all ranks throw.
enum UnroutableToken {
  /// A router logit of the token is NaN or infinite.
  case logit(Int)
  /// A gate logit of the dense branch is NaN or infinite.
  case gate(Int)
}

extension RankHeader {
  init(tokenCount: Int, sequenceLength: Int, unroutable: UnroutableToken?, sliceCount: Int) {
    (nonFiniteLogit, nonFiniteGate) = (-1, -1)
    switch unroutable {
    case .logit(let token)?: nonFiniteLogit = token
    case .gate(let token)?: nonFiniteGate = token
    case nil: break
    }
    self.tokenCount = tokenCount
    self.sequenceLength = sequenceLength
    self.sliceCount = sliceCount
  }
}

/// The distribution of a pass's tokens over the ranks. The value is the same on every rank.
struct Batch {
  /// `[R + 1]`: the index in the batch of each rank's first token, followed by T.
  let firstTokens: [Int]
  /// The number of tokens per sequence; 0 for a batch without tokens.
  let sequenceLength: Int
  /// The number of slices in which rows travel.
  let sliceCount: Int

  /// The number of tokens, T.
  var tokenCount: Int { firstTokens.last! }
  /// `[R]`: the number of tokens of each rank.
  var tokenCounts: [Int] { zip(firstTokens, firstTokens.dropFirst()).map { $1 - $0 } }

  /// Returns the tokens of a rank, by their indices in the batch.
  func tokens(ofRank rank: Int) -> Range<Int> { firstTokens[rank]..<firstTokens[rank + 1] }

  /// - Parameter headers: `[R]`: the headers of all ranks in order of rank.
  /// - Throws: `MoEError`, the same on all ranks: `.notFinite` for the first token that cannot be routed,
  ///   `.invalidConfiguration` for a sequence length below 1 or, with a capacity per sequence, different sequence
  ///   lengths, and `.unsupported` for more rows than 32-bit indices can count.
  init(_ headers: [RankHeader], of configuration: MoEConfiguration) throws(MoEError) {
    var firstTokens = [0]
    for header in headers { firstTokens.append(firstTokens.last! + header.tokenCount) }
    for (token, what) in [
      (\RankHeader.nonFiniteLogit, "the router logit"),
      (\RankHeader.nonFiniteGate, "the dense branch's gate logit"),
    ] {
      for (rank, header) in headers.enumerated() where header[keyPath: token] >= 0 {
        throw .notFinite(what: what, token: firstTokens[rank] + header[keyPath: token])
      }
    }
    let lengths = headers.filter { $0.tokenCount > 0 }.map(\.sequenceLength)
    if let wrong = lengths.first(where: { $0 < 1 }) {
      throw .invalidConfiguration("the sequence length is \(wrong), expected at least 1")
    }
    let distinctLengths = Set(lengths)
    if configuration.routing.capacity?.scope == .sequence, distinctLengths.count > 1 {
      throw .invalidConfiguration(
        "the ranks' sequences are of \(distinctLengths.sorted()) tokens, expected one length for a capacity per sequence"
      )
    }
    let chosen = configuration.expertsPerToken
    guard firstTokens.last! * chosen < Int(Int32.max) else {
      throw .unsupported(
        "\(firstTokens.last!) tokens of \(chosen) experts are more than 2^31 − 2 rows")
    }
    self.firstTokens = firstTokens
    sequenceLength = lengths.first ?? 0
    sliceCount = headers.map(\.sliceCount).max()!
  }
}
