/// Text made safe for HTML, in elements and in quoted attributes.
///
/// Control characters become their pictures (U+2400…), and characters that would reorder the text around them, or
/// hide, become their numbers: what a file says is shown, not obeyed.
package func escaped(_ text: some StringProtocol) -> String {
  var result = ""
  for scalar in text.unicodeScalars { result += escaped(scalar) }
  return result
}

/// One character made safe for HTML.
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

/// An element with attributes, whose values are escaped here, and contents, which are markup already.
package func element(
  _ name: String, _ attributes: KeyValuePairs<String, String> = [:], _ contents: String = ""
) -> String {
  let list = attributes.map { " \($0)=\"\(escaped($1))\"" }.joined()
  return "<\(name)\(list)>\(contents)</\(name)>"
}
