/// `text` with visible escapes in place of characters that a terminal acts on: control characters, separators of lines,
/// and those that turn the direction of text.
///
/// - Parameter exceptions: characters that stay.
func printable(_ text: String, except exceptions: String = "") -> String {
  guard text.unicodeScalars.contains(where: actsOnTerminals) else { return text }
  var result = String.UnicodeScalarView()
  for scalar in text.unicodeScalars {
    if actsOnTerminals(scalar), !exceptions.unicodeScalars.contains(scalar) {
      result.append(contentsOf: scalar.escaped(asASCII: true).unicodeScalars)
    } else {
      result.append(scalar)
    }
  }
  return String(result)
}

/// JSON with escapes in place of the control characters that JSON allows in a string: U+007F to U+009F.
func escapedJSON(_ text: String) -> String {
  guard text.unicodeScalars.contains(where: { (0x7F...0x9F).contains($0.value) }) else { return text }
  var result = ""
  for scalar in text.unicodeScalars {
    result +=
      (0x7F...0x9F).contains(scalar.value) ? "\\u00\(String(scalar.value, radix: 16))" : String(scalar)
  }
  return result
}

private func actsOnTerminals(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.value {
  case 0..<0x20, 0x7F...0x9F, 0x2028...0x202E, 0x2066...0x2069: true
  default: false
  }
}
