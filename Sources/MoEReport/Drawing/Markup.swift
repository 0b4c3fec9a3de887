/// Returns text that is safe in HTML, in elements and in quoted attributes.
///
/// Control characters become their pictures (U+2400…). Characters that are invisible, or that would reorder the text
/// around them, become their numbers. So text from a file is shown and has no other effect.
package func escaped(_ text: some StringProtocol) -> String {
  var result = ""
  for scalar in text.unicodeScalars { result += escaped(scalar) }
  return result
}

/// Returns one character that is safe in HTML.
func escaped(_ scalar: Unicode.Scalar) -> String {
  switch scalar {
  case "&": "&amp;"
  case "<": "&lt;"
  case ">": "&gt;"
  case "\"": "&quot;"
  case "'": "&#39;"
  case "\n", "\t": String(scalar)
  case "\u{0}"..."\u{1f}": String(Unicode.Scalar(0x2400 + scalar.value)!)
  case "\u{7f}": "\u{2421}"
  case "\u{80}"..."\u{9f}": "\u{fffd}"
  case "\u{61c}", "\u{200b}", "\u{200e}"..."\u{200f}", "\u{2028}"..."\u{202e}", "\u{2060}"..."\u{206f}",
    "\u{feff}",
    "\u{fff9}"..."\u{fffb}", "\u{e0000}"..."\u{e0fff}":
    "[U+\(String(scalar.value, radix: 16, uppercase: true))]"
  default:
    // Noncharacters are errors in HTML.
    scalar.value & 0xfffe == 0xfffe || (0xfdd0...0xfdef).contains(scalar.value) ? "\u{fffd}" : String(scalar)
  }
}

/// Returns an element. The values of attributes are escaped here; the contents must be markup already.
package func element(
  _ name: String, _ attributes: KeyValuePairs<String, String> = [:], _ contents: String = ""
) -> String {
  let list = attributes.map { " \($0)=\"\(escaped($1))\"" }.joined()
  return "<\(name)\(list)>\(contents)</\(name)>"
}
