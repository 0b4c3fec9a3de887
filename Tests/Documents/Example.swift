import Foundation

/// A Swift block of a page of documentation.
///
/// A block may use names that the page leaves to the reader. An HTML comment directly before the block declares them:
///
///     <!-- example: let x: Activations = given() -->
package struct Example {
  /// The page, and the line of the block's first line of code.
  package let page: String
  package let line: Int
  /// Lines of the comment before the block, and of the block.
  package let context: [String]
  package let code: [String]

  /// A declaration for all examples: any value, of which only the type matters.
  package static let given = "func given<Value>() -> Value { fatalError() }\n"

  /// Returns the Swift blocks of a page in order.
  ///
  /// - Throws: ``DocumentError`` if a block does not end.
  package static func all(in text: String, page: String) throws -> [Example] {
    var examples: [Example] = []
    var context: [String] = []
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)[...]
    func number() -> Int { lines.startIndex + 1 }
    while let line = lines.popFirst() {
      if line.hasPrefix("<!-- example:") {
        var comment = [String(line.dropFirst("<!-- example:".count))]
        while !comment[comment.count - 1].contains("-->"), let next = lines.popFirst() {
          comment.append(next)
        }
        comment[comment.count - 1] = comment[comment.count - 1].replacing("-->", with: "")
        context = comment
      } else if line == "```swift" {
        let first = number()
        guard let end = lines.firstIndex(of: "```") else {
          throw DocumentError("\(page):\(first - 1): the block does not end")
        }
        examples.append(Example(page: page, line: first, context: context, code: Array(lines[..<end])))
        lines = lines[(end + 1)...]
        context = []
      } else if !line.isEmpty {
        context = []
      }
    }
    return examples
  }

  /// A Swift file that has the block as the body of a function. Errors name the page and the line.
  package func file(number: Int) -> String {
    func isImport(_ line: String) -> Bool {
      line.trimmingCharacters(in: .whitespaces).hasPrefix("import ")
    }
    let imports = (context + code).filter(isImport)
    // A line that is left out stays as an empty one, so that lines keep their numbers.
    let body = code.map { isImport($0) ? "" : $0 }
    return
      (imports + ["func example\(number)() throws {"] + context.filter { !isImport($0) }
      + ["do {", "#sourceLocation(file: \"\(page)\", line: \(line))"] + body
      + ["#sourceLocation()", "}", "}", ""]).joined(separator: "\n")
  }
}
