import Foundation

/// The links of a Markdown page to files of the repository.
package enum Links {
  /// Returns the targets of the page's relative links, as paths inside the repository.
  package static func paths(in text: String, page: String) -> [String] {
    let folder = page.split(separator: "/").dropLast().map { $0 + "/" }.joined()
    return text.matches(of: /\]\(([^)\s#]+)(#[^)]*)?\)/).map { String($0.1) }
      .filter { !$0.contains("://") && !$0.hasPrefix("<") && !$0.hasPrefix("doc:") }
      .map { folder + $0 }
  }

  /// Returns the names of source files in a page's inline code, such as `MoELayer.swift` or `isa/tile.c`.
  package static func sourceFiles(in text: String) -> [String] {
    text.matches(of: /`([A-Za-z][A-Za-z0-9_+\/.-]*\.(swift|c|h))`/).map { String($0.1) }
  }
}
