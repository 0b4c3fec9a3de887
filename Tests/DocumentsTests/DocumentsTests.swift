import Foundation
import MoECore
import Testing
import moe_documents

/// Documents say what is there.
struct DocumentsTests {
  private let repository = Repository(
    root: URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent())

  @Test("bench/RESULTS.md is rendered from bench/results")
  func results() throws {
    #expect(
      try ResultsPage(repository: repository).markdown == repository.text(ResultsPage.path),
      "run `make results`")
  }

  @Test("CONTRIBUTING names every folder, and no other")
  func folders() throws {
    let page = try repository.text(FolderTree.page)
    #expect(
      try FolderTree(repository: repository).replacingTree(in: page) == page,
      "run `make tree` and describe what is new")
    #expect(!page.contains(FolderTree.missing), "a folder has no description")
  }

  @Test("A new folder enters the tree without a description, and one that is gone leaves it")
  func foldersThatChange() throws {
    let page = try repository.text(FolderTree.page)
    let line = try #require(page.split(separator: "\n").first { $0.hasPrefix("Examples/") })
    let changed = page.replacing(line, with: "Gone/  a folder")
    let tree = try FolderTree(repository: repository).replacingTree(in: changed)
    #expect(!tree.contains("Gone/"))
    #expect(
      tree.split(separator: "\n").contains { $0.hasPrefix("Examples/") && $0.hasSuffix(FolderTree.missing) })
  }

  @Test("The page of published rules is rendered from its data")
  func publishedRules() throws {
    #expect(
      try RulesPage(repository: repository).markdown == repository.text(RulesPage.path), "run `make rules`")
  }

  @Test("Every published rule that is here has a test that exists, and every other one a reason")
  func answersOfPublishedRules() throws {
    let folder = repository.root.appending(path: "Tests")
    let files = try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter {
      $0.hasSuffix(".swift")
    }
    var tests: Set<Substring> = []
    for file in files {
      let text = try repository.text("Tests/\(file)")
      // The attribute of a function stands between the word before its name and that of the function before.
      let parts = text.split(separator: "func ", omittingEmptySubsequences: false)
      for (before, function) in zip(parts, parts.dropFirst()) where before.contains("@Test") {
        tests.insert(function.prefix { $0.isLetter || $0.isNumber || $0 == "_" })
      }
    }
    for rule in try RulesPage(repository: repository).sections.flatMap(\.rows) {
      switch rule.ours {
      case .yes:
        let test = try #require(rule.test, "“\(rule.rule)” names no test")
        let exists = tests.contains(test[...])
        #expect(exists, "“\(rule.rule)” names the test \(test), which does not exist")
      case .no: #expect(rule.reason?.isEmpty == false, "“\(rule.rule)” has no reason")
      }
    }
  }

  @Test("The page of routing rules has every rule with its summary and source, and no other")
  func routingRules() throws {
    let page = try repository.text("Sources/MoE/MoE.docc/RoutingRules.md")
    let rows = RoutingPreset.all.map { "| `\($0.name)` | \($0.summary) | \($0.source) |" }
    let found = page.split(separator: "\n").filter { $0.hasPrefix("| `") }.map(String.init)
    #expect(found == rows, "expected:\n\(rows.joined(separator: "\n"))")
  }

  @Test("Every link to a file of the repository has its file")
  func links() throws {
    for page in try repository.pages() + [ResultsPage.path] {
      for path in Links.paths(in: try repository.text(page), page: page) {
        #expect(repository.exists(path), "\(page) links to \(path)")
      }
    }
  }

  /// The pages that lead from the API to the inner loop name files without their folders.
  @Test("Every source file that the documents name exists")
  func sourceFiles() throws {
    let files = try FileManager.default.subpathsOfDirectory(atPath: repository.root.path)
      .filter { !$0.hasPrefix(".") && !$0.hasPrefix("bench/.") }
    for page in try repository.pages() where page != "CHANGELOG.md" {
      for name in Links.sourceFiles(in: try repository.text(page)) where !name.contains("NAME") {
        #expect(files.contains { $0 == name || $0.hasSuffix("/" + name) }, "\(page) names \(name)")
      }
    }
  }

  @Test("The program has the version of the newest release in the changelog")
  func version() throws {
    let changelog = try repository.text("CHANGELOG.md")
    let newest = try #require(changelog.firstMatch(of: /\n## \[([0-9]+\.[0-9]+\.[0-9]+)\]/)?.1)
    let source = try repository.text("Sources/MoECommand/MoeCommand.swift")
    #expect(source.contains("let version = \"\(newest)\""), "the newest release is \(newest)")
  }
}
