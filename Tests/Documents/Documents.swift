import Foundation

/// The program `moe-documents`: writes the parts of the documents that are made from data.
///
///     swift run moe-documents results    # bench/RESULTS.md from bench/results/*.json
///     swift run moe-documents tree       # the folder tree of CONTRIBUTING.md from the folders and their descriptions
///     swift run moe-documents rules      # the page of published rules from Tests/Documents/rules.json
@main
enum Documents {
  static func main() {
    do {
      switch Array(CommandLine.arguments.dropFirst()) {
      case ["results"]: try write(try ResultsPage(repository: .current).markdown, to: ResultsPage.path)
      case ["tree"]:
        let page = try Repository.current.text(FolderTree.page)
        try write(
          try FolderTree(repository: .current).replacingTree(in: page), to: FolderTree.page)
      case ["rules"]: try write(try RulesPage(repository: .current).markdown, to: RulesPage.path)
      default: throw DocumentError("usage: moe-documents results | tree | rules, in the repository's folder")
      }
    } catch {
      FileHandle.standardError.write(Data("moe-documents: \(error)\n".utf8))
      exit(1)
    }
  }

  private static func write(_ text: String, to path: String) throws {
    try Data(text.utf8).write(to: Repository.current.url(path))
  }
}

/// A sentence that says which document is wrong, and how.
package struct DocumentError: Error, CustomStringConvertible {
  package let description: String

  init(_ description: String) { self.description = description }
}
