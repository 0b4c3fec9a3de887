import Foundation
import Testing
import moe_documents

/// The Swift blocks of README and DocC compile against the public API.
struct ExampleTests {
  private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  @Test("A comment before a block is its context, and lines keep their numbers")
  func blocks() throws {
    let page =
      "# T\n\n<!-- example: let x = 1\nlet y = 2 -->\n```swift\nimport MoE\nprint(x)\n```\n\n```swift\nf()\n```\n"
    let examples = try Example.all(in: page, page: "p.md")
    #expect(examples.map(\.line) == [6, 11])
    #expect(examples.map(\.context) == [[" let x = 1", "let y = 2 "], []])
    #expect(examples[0].file(number: 3).contains("import MoE\nfunc example3() throws {\n let x = 1\n"))
    #expect(throws: DocumentError.self) { try Example.all(in: "```swift\nf()", page: "p.md") }
  }

  @Test("Every Swift block of README and DocC compiles", .timeLimit(.minutes(5)))
  func compiles() throws {
    let repository = Repository(root: root)
    let examples = try repository.pages().flatMap { try Example.all(in: repository.text($0), page: $0) }
    #expect(examples.count >= 10)
    let result = try typecheck(examples)
    #expect(result.status == 0, "\(result.text)")
  }

  @Test("A block that does not compile is named by page and line", .timeLimit(.minutes(5)))
  func failure() throws {
    let page = "```swift\nimport MoECore\nlet matrix: Matrix = 1\n```\n"
    let result = try typecheck(try Example.all(in: page, page: "p.md"))
    #expect(result.status != 0 && result.text.contains("p.md:3:"), "\(result.text)")
  }

  /// Type-checks blocks against the modules beside these tests.
  private func typecheck(_ examples: [Example]) throws -> (status: Int32, text: String) {
    let products = try #require(buildFolder, "no folder Modules beside the tests")
    let folder = FileManager.default.temporaryDirectory.appending(path: "moe-examples-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let texts = [Example.given] + examples.enumerated().map { $1.file(number: $0) }
    let files = try texts.enumerated().map { index, text in
      let file = folder.appending(path: "Example\(index).swift")
      try Data(text.utf8).write(to: file)
      return file.path
    }
    return try run(
      "/usr/bin/env",
      [
        "swiftc", "-typecheck", "-swift-version", "6", "-suppress-warnings", "-module-name", "Examples", "-I",
        products.appending(path: "Modules").path,
      ] + moduleMaps(products) + files)
  }

  /// The folder of the build that these tests are of.
  private var buildFolder: URL? {
    let places = [Bundle.main.executableURL, CommandLine.arguments.first.map { URL(filePath: $0) }]
    return places.compactMap { $0?.deletingLastPathComponent() }.first {
      FileManager.default.fileExists(atPath: $0.appending(path: "Modules/MoE.swiftmodule").path)
    }
  }

  /// The arguments that make the C modules known that the Swift ones import.
  private func moduleMaps(_ products: URL) -> [String] {
    let maps =
      ["CKernels", "CCommunicator"].map { products.appending(path: "\($0).build/module.modulemap") }
      + [root.appending(path: "Sources/COpenBLAS/module.modulemap")]
    return maps.flatMap { ["-Xcc", "-fmodule-map-file=\($0.path)"] }
  }

  private func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, text: String) {
    let process = Process()
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text)
  }
}
