internal import Foundation

/// A path as the bytes that the file system uses. They need not be UTF-8.
struct FilePath: Hashable {
  /// The bytes of the path, without a zero byte.
  let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }
  init(_ text: String) { bytes = Array(text.utf8) }

  /// The path as text; bytes that are not UTF-8 become replacement characters.
  var text: String { String(decoding: bytes, as: UTF8.self) }

  /// The path of `name` inside this folder.
  func appending(_ name: [UInt8]) -> FilePath {
    if bytes.isEmpty { return FilePath(name) }
    return FilePath(bytes.last == UInt8(ascii: "/") ? bytes + name : bytes + [UInt8(ascii: "/")] + name)
  }

  /// Calls `body` with the path as a C string.
  func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
    let terminated = bytes.map { CChar(bitPattern: $0) } + [0]
    return unsafe terminated.withUnsafeBufferPointer { unsafe body($0.baseAddress!) }
  }

  /// A file or folder by its device and inode number, which are equal for all paths that lead to it.
  struct Identity: Hashable {
    let device: UInt64
    let number: UInt64
  }

  /// The kinds of things that a path may lead to.
  enum Kind {
    case file, folder
    /// Any other kind, described in words.
    case other(String)
  }

  /// Follows links and returns the kind and identity of the path's target; nil where the target does not exist.
  func target() -> (kind: Kind, identity: Identity)? {
    var status = stat()
    guard unsafe withCString({ unsafe stat($0, &status) }) == 0 else { return nil }
    let kind: Kind =
      switch status.st_mode & S_IFMT {
      case S_IFREG: .file
      case S_IFDIR: .folder
      case S_IFIFO: .other("a pipe")
      case S_IFSOCK: .other("a socket")
      case S_IFCHR, S_IFBLK: .other("a device")
      default: .other("neither file nor folder")
      }
    return (kind, Identity(device: UInt64(status.st_dev), number: UInt64(status.st_ino)))
  }

  /// Whether the path itself is a symbolic link.
  var isLink: Bool {
    var status = stat()
    return unsafe withCString { unsafe lstat($0, &status) } == 0 && status.st_mode & S_IFMT == S_IFLNK
  }

  /// The names in a folder, in the order of their bytes; nil where it cannot be read, with `errno` set.
  func names() -> [[UInt8]]? {
    guard let stream = unsafe withCString({ unsafe opendir($0) }) else { return nil }
    defer { unsafe closedir(stream) }
    var names: [[UInt8]] = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
        let start = unsafe UnsafeRawPointer(name)
        let count = unsafe strlen(start.assumingMemoryBound(to: CChar.self))
        return unsafe [UInt8](UnsafeRawBufferPointer(start: start, count: count))
      }
      if name != [UInt8(ascii: ".")] && name != Array("..".utf8) { names.append(name) }
    }
    return names.sorted { $0.lexicographicallyPrecedes($1) }
  }

  /// The bytes of a file; nil where it cannot be read, with `errno` set.
  func contents() -> [UInt8]? {
    let descriptor = unsafe withCString { unsafe open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
    if descriptor < 0 { return nil }
    defer { close(descriptor) }
    var status = stat()
    let size = unsafe fstat(descriptor, &status) == 0 ? Int(status.st_size) : 0
    var bytes: [UInt8] = []
    bytes.reserveCapacity(size)
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe read(descriptor, &piece, piece.count)
      if count > 0 {
        bytes += piece[..<count]
      } else if count == 0 {
        return bytes
      } else if errno != EINTR {
        return nil
      }
    }
  }

  /// Returns the path without links, “.” and “..”; nil where its target does not exist.
  func resolved() -> FilePath? {
    guard let path = unsafe withCString({ unsafe realpath($0, nil) }) else { return nil }
    defer { unsafe free(path) }
    return FilePath(
      unsafe (0..<strlen(path)).map { unsafe UInt8(bitPattern: path[$0]) })
  }
}

extension FilePath {
  private static let slash = UInt8(ascii: "/")

  /// Finds the file or folder that a text names. A name that is not UTF-8 is found by the text that ``text`` makes of
  /// it, if no other name in its folder has that text.
  static func find(_ text: String) -> FilePath? {
    if text.isEmpty || text.utf8.contains(0) { return nil }
    let plain = FilePath(text)
    if plain.target() != nil || !text.unicodeScalars.contains("\u{FFFD}") {
      return plain.target() == nil ? nil : plain
    }
    var path = FilePath(text.utf8.first == slash ? [slash] : [])
    for component in plain.bytes.split(separator: slash) {
      let next = path.appending(Array(component))
      if next.target() != nil {
        path = next
        continue
      }
      let wanted = String(decoding: component, as: UTF8.self)
      let found = (path.bytes.isEmpty ? FilePath(".") : path).names()?.filter {
        String(decoding: $0, as: UTF8.self).utf8.elementsEqual(wanted.utf8)
      }
      guard let found, found.count == 1 else { return nil }
      path = path.appending(found[0])
    }
    return path.target() == nil ? nil : path
  }

  /// Returns the path from the root. Links keep their names, unless “..” follows one.
  func absolute() -> FilePath {
    let parts = bytes.split(separator: Self.slash)
    if parts.contains(Array("..".utf8)[...]) { return resolved() ?? self }
    var path = FilePath([Self.slash])
    if bytes.first != Self.slash, let folder = FilePath(".").resolved() { path = folder }
    for part in parts where part != [UInt8(ascii: ".")] { path = path.appending(Array(part)) }
    return path
  }

  /// The last name of the path from the root, as text.
  var name: String {
    absolute().bytes.split(separator: Self.slash).last.map { String(decoding: $0, as: UTF8.self) } ?? "/"
  }
}

/// Returns the system's text for the error of the last failed call.
func systemReason() -> String { unsafe String(cString: strerror(errno)) }
