import Foundation
import Testing

/// Logits and options that do not go together: one sentence, no output, nothing left behind.
@Suite struct BadRouteTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var tensors: [String: Tensor]
    var options: [String]
    var complaint: [String]
    var testDescription: String { name }

    init(_ name: String, _ tensors: [String: Tensor], _ options: String, says complaint: String...) {
      self.name = name
      self.tensors = tensors
      self.options = options.split(separator: " ").map(String.init)
      self.complaint = complaint
    }
  }

  private static let eight = ["logits": Tensor(3, 8), "bias": Tensor(5), "good": Tensor(8)]

  /// Three tokens of four experts, the last token with `value` among its logits.
  private static func logits(with value: Float) -> [String: Tensor] {
    ["logits": Tensor([3, 4], [1, 2, 3, 4, 1, 2, 3, 4, 1, value, 3, 4])]
  }

  static let cases: [Case] = [
    Case(
      "more choices than experts", eight, "--policy switch --top-k 9", says: "“logits”",
      "top-k is 9, expected 1 to", "experts, 8"),
    Case(
      "NaN", logits(with: .nan), "--policy switch", says: "“logits”", "logit of token 2 is NaN or infinite"),
    Case(
      "infinity", logits(with: .infinity), "--policy topk-softmax", says: "“logits”",
      "of token 2 is NaN or infinite"),
    Case(
      "no expert left", ["logits": Tensor([2, 2], [0, 0, -.infinity, -.infinity])], "--policy llama4",
      says: "“logits”", "of token 1 is"),
    Case(
      "rank 1", ["logits": Tensor(8)], "--policy switch",
      says: "“logits” has shape [8], expected two dimensions"),
    Case(
      "rank 3", ["logits": Tensor(2, 3, 8)], "--policy switch", says: "“logits” has shape [2, 3, 8], expected"
    ),
    Case(
      "no experts", ["logits": Tensor(3, 0)], "--policy switch", says: "“logits”", "number of experts is 0"),
    Case(
      "integers", ["logits": Tensor(type: "I32", shape: [1, 1], bytes: [0, 0, 0, 0])], "--policy switch",
      says: "“logits” is I32, expected F32, F16 or BF16"),
    Case(
      "other names", ["a": Tensor(1, 2), "b": Tensor(1, 2)], "--policy switch",
      says: "“logits” is missing, the file holds “a”, “b”"),
    Case(
      "groups that do not divide", eight, "--policy deepseek-v3 --groups 3 --groups-selected 1 --top-k 1",
      says: "8 experts cannot be divided into 3 equal groups"),
    Case(
      "more groups selected than there are", eight,
      "--policy deepseek-v3 --groups 4 --groups-selected 5 --top-k 1",
      says: "a token may use 5 groups, expected 1 to 4"),
    Case(
      "groups too small for top-k", eight, "--policy deepseek-v3 --groups 4 --groups-selected 1 --top-k 3",
      says: "the groups a token may use hold 2 experts, fewer than top-k 3"),
    Case(
      "bias of another length", eight, "--policy deepseek-v3 --selection-bias bias",
      says: "“bias” has shape [5], expected [8], one bias for each expert"),
    Case(
      "bias that is not there", eight, "--policy deepseek-v3 --selection-bias b",
      says: "“b” is missing, the file holds “bias”"),
    Case(
      "bias with NaN", ["logits": Tensor(1, 2), "bias": Tensor([2], [0, .nan])],
      "--policy llama4 --selection-bias bias", says: "“bias” has nan for expert 1"),
  ]

  @Test(arguments: cases)
  func isRefused(_ bad: Case) throws {
    try withTemporaryFolder { folder in
      let (input, output) = (folder.appending(path: "x"), folder.appending(path: "y"))
      try Data(safetensors(bad.tensors)).write(to: input)
      let arguments = ["route", input.path, "--output", output.path] + bad.options
      expectFailure(try moe(arguments), saying: [input.path] + bad.complaint)
      #expect(try names(in: folder) == ["x"])
      try Data("before".utf8).write(to: output)
      expectFailure(try moe(arguments), saying: [input.path] + bad.complaint)
      #expect(try Data(contentsOf: output) == Data("before".utf8))
    }
  }

  @Test func filesThatCannotBeUsed() throws {
    try withTemporaryFolder { folder in
      let input = folder.appending(path: "x").path
      expectFailure(try moe("route", input, "--policy", "switch"), saying: ["\(input): cannot be opened"])
      expectFailure(
        try moe("route", folder.path, "--policy", "switch"), saying: ["\(folder.path): is a folder"])
      try Data(safetensors(["logits": Tensor(3, 4)])).write(to: URL(filePath: input))
      expectFailure(
        try moe("route", input, "--policy", "switch", "--output", "\(folder.path)/none/y"),
        saying: ["/none/y: cannot be created in the folder"])
      #expect(try names(in: folder) == ["x"])
    }
  }
}
