import Foundation
import Testing

/// The folders of a module are floors: a folder uses the folders before it, and none after it.
@Suite struct FloorsTests {
  /// The floors from the ground up, as CONTRIBUTING lists them.
  static let floors = [
    "Dense", "Ranks", "Model", "Optimizers", "Data", "Checkpoints", "Run", "Generation", "Training",
  ]

  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  private static let module = root.appending(path: "Sources/MoETraining")

  /// A source file as code, without comments and strings.
  private struct Source {
    var name: String
    var folder: String
    var code: String

    init(_ file: URL, folder: String) throws {
      name = file.lastPathComponent
      self.folder = folder
      let text = try String(contentsOf: file, encoding: .utf8)
      code = text.replacing(/"""[\s\S]*?"""/, with: "").replacing(/\/\/.*/, with: "").replacing(
        /"(\\.|[^"\\\n])*"/, with: "")
    }

    /// The types, functions and constants of the file that other files can use.
    var declarations: [String] {
      let pattern =
        /^(?:@\w+ )*(?:(?:public|package|internal|final|indirect) )*(?:struct|class|enum|protocol|typealias|func|let|var) (\w+)/
      return code.matches(of: pattern.anchorsMatchLineEndings()).map { String($0.1) }
    }

    /// The words that may name a declaration of another file: all that are not members.
    var words: Set<String> { Set(code.matches(of: /(?:^|[^.\w])([A-Za-z_]\w*)/).map { String($0.1) }) }
  }

  private static func sources() throws -> [Source] {
    let files = FileManager.default
    func sources(in folder: String) throws -> [Source] {
      let path = module.appending(path: folder)
      return try files.contentsOfDirectory(at: path, includingPropertiesForKeys: nil)
        .filter { $0.pathExtension == "swift" }.map { try Source($0, folder: folder) }
    }
    return try ([""] + floors).flatMap(sources)
  }

  @Test func everyFolderIsAFloor() throws {
    let names = try FileManager.default.contentsOfDirectory(atPath: Self.module.path)
    let folders = names.filter { !$0.hasSuffix(".swift") && !$0.hasSuffix(".docc") }
    #expect(Set(folders) == Set(Self.floors))
  }

  @Test func noFloorUsesAHigherOne() throws {
    let sources = try Self.sources()
    #expect(sources.count > 60)
    // Files of the module's root are below all floors.
    let height = Dictionary(uniqueKeysWithValues: ([""] + Self.floors).enumerated().map { ($1, $0) })
    var homes: [String: String] = [:]
    for source in sources {
      for name in source.declarations where homes[name].map({ height[source.folder]! < height[$0]! }) ?? true
      {
        homes[name] = source.folder
      }
    }
    for source in sources {
      for word in source.words.sorted() {
        guard let home = homes[word], height[home]! > height[source.folder]! else { continue }
        // An argument or a property may have the name of a function.
        if word.first!.isLowercase, !source.code.contains("\(word)(") { continue }
        Issue.record("\(source.folder)/\(source.name) uses \(word) of \(home), a higher floor")
      }
    }
  }

  @Test func contributingListsTheFloors() throws {
    let page = try String(contentsOf: Self.root.appending(path: "CONTRIBUTING.md"), encoding: .utf8)
    let text = page.replacing("\n", with: " ")
    #expect(text.contains(Self.floors.map { "`\($0)`" }.joined(separator: ", ")))
  }
}
