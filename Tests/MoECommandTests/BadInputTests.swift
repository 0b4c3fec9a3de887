import Foundation
import Testing

/// Inputs that `moe apply` must refuse: one sentence, no output, nothing left behind.
@Suite struct BadInputTests {
  /// An input file, and what is said of it.
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var complaint: [String]
    /// Nil where no file is to be there.
    var bytes: [UInt8]?
    var options: [String] = []
    var testDescription: String { name }

    init(_ name: String, _ complaint: String..., bytes: [UInt8]?, options: [String] = []) {
      (self.name, self.complaint, self.bytes, self.options) = (name, complaint, bytes, options)
    }

    /// A file with these tensors.
    init(_ name: String, _ complaint: String..., tensors: [String: Tensor], options: [String] = []) {
      (self.name, self.complaint, self.options) = (name, complaint, options)
      bytes = safetensors(tensors)
    }

    /// A file with a tensor `hidden` that the header describes by `member`, and 800 bytes.
    init(_ name: String, _ complaint: String..., member: String) {
      (self.name, self.complaint) = (name, complaint)
      bytes = safetensors(header: "{\"hidden\":\(member)}", [UInt8](repeating: 0, count: 800))
    }
  }

  /// Activations that mixtral accepts.
  private static let good = Tensor(2, 5, 20)

  /// `good` with one number changed.
  private static func with(_ value: Float, at index: Int) -> [String: Tensor] {
    var tensor = good
    tensor.bytes.replaceSubrange(4 * index..<4 * index + 4, with: littleEndian(value.bitPattern, 4))
    return ["hidden": tensor]
  }

  private static let whole = safetensors(["hidden": good])
  private static let f32 = #""dtype":"F32","shape":[2,5,20]"#

  static let cases: [Case] = [
    Case("missing file", "cannot be opened", "No such file", bytes: nil),
    Case("empty file", "is 0 bytes long", "not a safetensors file", bytes: []),
    Case(
      "not safetensors", "not a safetensors file", bytes: Array("P3\n3 2\n255\n255 0 0\n0 255 0\n".utf8)),
    Case("truncated header", "the file ends after 20 of them", bytes: Array(whole[..<28])),
    Case(
      "truncated data", "“hidden”", "ends at byte 800", "has only 799", bytes: Array(whole.dropLast())),
    Case("bytes after the data", "1 bytes at the end", bytes: whole + [0]),
    Case(
      "header of length 2^60", "1152921504606846976", "at most 100000000",
      bytes: littleEndian(1 << 60, 8) + whole.dropFirst(8)),
    Case(
      "offsets out of range", "“hidden”", "byte 1600", "only 800",
      member: "{\(f32),\"data_offsets\":[800,1600]}"),
    Case(
      "lying shape", "“hidden”", "800 bytes, expected 840 for shape [2, 5, 21]",
      member: #"{"dtype":"F32","shape":[2,5,21],"data_offsets":[0,800]}"#),
    Case(
      "overflowing shape", "“hidden”", "overflows 64 bits",
      member: #"{"dtype":"F32","shape":[4611686018427387904,20],"data_offsets":[0,800]}"#),
    Case(
      "overlap", "“a” and “b” overlap",
      bytes: safetensors(
        header: "{\"a\":{\(f32),\"data_offsets\":[0,800]},\"b\":{\(f32),\"data_offsets\":[400,1200]}}",
        [UInt8](repeating: 0, count: 1200))),
    Case(
      "one name twice", "“hidden” twice",
      bytes: safetensors(
        header:
          "{\"hidden\":{\(f32),\"data_offsets\":[0,800]},\"hidden\":{\(f32),\"data_offsets\":[800,1600]}}",
        [UInt8](repeating: 0, count: 1600))),
    Case(
      "integers", "“hidden” is I32, expected F32, F16 or BF16",
      tensors: ["hidden": Tensor(type: "I32", shape: good.shape, bytes: good.bytes)]),
    Case("no tensor", "holds no tensor", tensors: [:]),
    Case("two tensors", "holds “a”, “b”", "--tensor", tensors: ["a": good, "b": good]),
    Case(
      "another name", "“hiden” is missing", "holds “hidden”", tensors: ["hidden": good],
      options: ["--tensor", "hiden"]),
    Case("a name with line breaks", #"“a\nb” has shape []"#, tensors: [#"a\nb"#: Tensor()]),
    Case("scalar", "“hidden” has shape [], expected […, D]", tensors: ["hidden": Tensor()]),
    Case("no columns", "“hidden” has shape [3, 0]", tensors: ["hidden": Tensor(3, 0)]),
    Case(
      "another hidden size", "“hidden” has shape [2, 5, 12], expected […, 20]", "mixtral",
      tensors: ["hidden": Tensor(2, 5, 12)]),
    Case("tokens last", "“hidden” has shape [20, 10], expected […, 20]", tensors: ["hidden": Tensor(20, 10)]),
    Case("NaN", "“hidden” has nan in column 4 of token 3", tensors: with(.nan, at: 64)),
    Case("infinity", "“hidden” has inf in column 19 of token 9", tensors: with(.infinity, at: 199)),
    Case("minus infinity", "“hidden” has -inf in column 0 of token 0", tensors: with(-.infinity, at: 0)),
    Case(
      "overflow in the router", "“hidden” cannot pass layer 0 of ",
      "the router logit of token 0 is NaN or infinite",
      tensors: ["hidden": Tensor([1, 20], Array(repeating: .greatestFiniteMagnitude, count: 20))]),
  ]

  @Test(arguments: cases)
  func isRefused(_ bad: Case) throws {
    try withTemporaryFolder { folder in
      let input = folder.appending(path: "x.safetensors")
      if let bytes = bad.bytes { try Data(bytes).write(to: input) }
      try expectRefusal(input: input, bad.options, saying: bad.complaint, in: folder)
    }
  }

  @Test func folderAsInput() throws {
    try withTemporaryFolder { folder in
      try expectRefusal(input: folder, [], saying: ["is a folder"], in: folder)
    }
  }

  /// Expects a run to fail without an output, and to leave an output alone that is there already.
  private func expectRefusal(input: URL, _ options: [String], saying complaint: [String], in folder: URL)
    throws
  {
    let output = folder.appending(path: "y.safetensors")
    let before = try names(in: folder)
    let arguments =
      [
        "apply", fixtures.appending(path: "mixtral").path, "--layer", "0", "--input", input.path, "--output",
        output.path,
      ] + options
    expectFailure(try moe(arguments), saying: [input.path] + complaint)
    #expect(try names(in: folder) == before)

    try Data("before".utf8).write(to: output)
    expectFailure(try moe(arguments), saying: [input.path] + complaint)
    #expect(try Data(contentsOf: output) == Data("before".utf8))
    #expect(try names(in: folder) == (before + ["y.safetensors"]).sorted())
  }

  @Test(arguments: [
    ("none/y", "cannot be created in the folder", "No such file"), ("", "is a folder", "name of a file"),
    ("/proc/y", "/proc/y: cannot be created", "/proc"), ("/dev/full", "cannot be written", "No space left"),
  ])
  func outputThatCannotBeWritten(_ output: String, _ complaint: String, _ detail: String) throws {
    try withTemporaryFolder { folder in
      let input = folder.appending(path: "x.safetensors")
      try Data(safetensors(["hidden": Self.good])).write(to: input)
      let path = output.hasPrefix("/") ? output : "\(folder.path)/\(output)"
      let checkpoint = fixtures.appending(path: "mixtral").path
      expectFailure(
        try moe("apply", checkpoint, "--layer", "0", "--input", input.path, "--output", path),
        saying: [path, complaint, detail])
      #expect(try names(in: folder) == ["x.safetensors"])
    }
  }
}
