package import Foundation

/// The files of a checkout of this repository.
package struct Repository {
  package let root: URL

  package init(root: URL) { self.root = root }

  /// The checkout in the current folder.
  static var current: Repository { Repository(root: URL(filePath: FileManager.default.currentDirectoryPath)) }

  /// Returns the address of a file from its path inside the repository.
  func url(_ path: String) -> URL { root.appending(path: path) }

  package func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: url(path).path) }

  /// Returns the text of a file.
  ///
  /// - Throws: ``DocumentError`` if the file cannot be read as UTF-8.
  package func text(_ path: String) throws -> String {
    do {
      return try String(contentsOf: url(path), encoding: .utf8)
    } catch {
      throw DocumentError("\(path) cannot be read; run this in the repository's folder")
    }
  }

  /// Returns the names of a folder's visible entries, sorted, folders with a slash at the end.
  func entries(_ path: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: url(path).path)
      .filter { !$0.hasPrefix(".") }
      .map { isFolder("\(path)/\($0)") ? $0 + "/" : $0 }
      .sorted()
  }

  /// Returns the paths of all Markdown pages of documentation: README and the like, and the pages of DocC catalogues.
  package func pages() throws -> [String] {
    let pages = try entries(".").filter { $0.hasSuffix(".md") }
    let catalogues = try entries("Sources").flatMap { module in
      try entries("Sources/\(module)").filter { $0.hasSuffix(".docc/") }.map { "Sources/\(module)\($0)" }
    }
    return pages
      + (try catalogues.flatMap { folder in
        try entries(folder).filter { $0.hasSuffix(".md") }.map { "\(folder)\($0)" }
      })
  }

  private func isFolder(_ path: String) -> Bool {
    (try? url(path).resourceValues(forKeys: [.isDirectoryKey]).isDirectory) ?? false
  }
}
