/// The tree of folders in CONTRIBUTING.md: one line for each folder and each file at the root, with its description.
///
/// Descriptions stand on the page alone. The tree is made again from the folders that exist and the descriptions that
/// the page has: a folder that is gone leaves the tree, and a new one enters it with ``missing`` as its description.
package struct FolderTree {
  package static let page = "CONTRIBUTING.md"
  package static let missing = "(describe this folder)"
  private static let start =
    "<!-- Folders: `make tree` keeps them complete; descriptions are edited here. -->\n```\n"
  private static let end = "```\n<!-- End of folders. -->\n"

  /// Folders that are made by building or running, and entries that git ignores.
  private static let ignored: Set<String> = ["runs/", "site/", "__pycache__/", "Package.resolved"]
  /// Folders whose contents are not listed.
  private static let closed: Set<String> = ["Tests/Fixtures/", "bench/experiments/"]

  private let paths: [String]

  /// Lists the folders of a checkout.
  package init(repository: Repository) throws {
    var paths: [String] = []
    func list(_ folder: String) throws {
      for entry in try repository.entries(folder.isEmpty ? "." : folder) where !Self.ignored.contains(entry) {
        let path = folder + entry
        if entry.hasSuffix("/") {
          if entry.hasSuffix(".docc/") || entry == "include/" { continue }
          paths.append(path)
          if !Self.closed.contains(path) { try list(path) }
        } else if folder.isEmpty {
          paths.append(path)
        }
      }
    }
    try list("")
    self.paths = paths
  }

  /// Returns the page with the tree made again.
  ///
  /// - Throws: ``DocumentError`` if the page has no tree between its two comments.
  package func replacingTree(in page: String) throws -> String {
    guard let start = page.firstRange(of: Self.start), let end = page.firstRange(of: Self.end),
      start.upperBound <= end.lowerBound
    else { throw DocumentError("\(Self.page) has no tree between \(Self.start) and \(Self.end)") }
    let known = Self.descriptions(page[start.upperBound..<end.lowerBound])
    return page[..<start.upperBound] + tree(known) + page[end.lowerBound...]
  }

  /// The description of each path in the lines of a tree.
  private static func descriptions(_ tree: Substring) -> [String: String] {
    var descriptions: [String: String] = [:]
    var folders: [Substring] = []
    for line in tree.split(separator: "\n") {
      let depth = line.prefix { $0 == " " }.count / 2
      let text = line.drop { $0 == " " }
      let name = text.prefix { $0 != " " }
      folders = Array(folders.prefix(depth)) + [name]
      descriptions[folders.joined()] = String(text.dropFirst(name.count).drop { $0 == " " })
    }
    return descriptions
  }

  private func tree(_ descriptions: [String: String]) -> String {
    let lines = paths.map { path in
      let parts = path.split(separator: "/")
      let name = String(parts.last!) + (path.hasSuffix("/") ? "/" : "")
      return (
        name: String(repeating: "  ", count: parts.count - 1) + name,
        description: descriptions[path] ?? Self.missing
      )
    }
    let width = lines.map(\.name.count).max() ?? 0
    return lines.map { line in
      line.name + String(repeating: " ", count: width + 2 - line.name.count) + line.description + "\n"
    }.joined()
  }
}
