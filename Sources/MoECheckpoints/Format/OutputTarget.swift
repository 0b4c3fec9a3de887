import Glibc

/// The file, pipe or device that a path stands for when something is written to it.
///
/// A regular file is replaced as a whole. Replacing a pipe or a device would take it from those who use it, so these are
/// written to. Symbolic links are followed, so that a link stays and the file that it names is written; a link may name
/// a file that does not exist yet.
struct OutputTarget {
  enum Kind {
    /// A regular file `name` of `folder`, which may exist already.
    case file(folder: String, name: String, existing: stat?)
    /// A pipe or a device.
    case stream(path: String)
    /// A descriptor of this process, by /dev/stdout or another name of it.
    case descriptor(Int32)
  }

  let kind: Kind

  /// Finds out what `path` stands for, and checks as far as possible that it can be written.
  ///
  /// - Throws: ``CheckpointError`` naming `path` where it is a folder, cannot be created or may not be written.
  init(_ path: String) throws(CheckpointError) {
    if path.utf8.contains(0) { throw CheckpointError(quoted(path), "a path cannot contain a zero byte") }
    if path.isEmpty { throw CheckpointError(quoted(path), "is not the name of a file") }
    do throws(CheckpointError) {
      kind = try Self.kind(path)
    } catch {
      // The caller knows the file by the name that it gave, not by the one that a link led to.
      throw CheckpointError(path, error.complaint)
    }
  }

  /// The file's numbers of device and file, where there is a regular file.
  var identity: FileIdentity? {
    switch kind {
    case .file(_, _, let existing): return existing.map { FileIdentity($0) }
    case .descriptor(let number):
      var status = stat()
      return unsafe fstat(number, &status) == 0 && status.isRegular ? FileIdentity(status) : nil
    case .stream: return nil
    }
  }

  /// Links that are followed at most, as by the system.
  private static let linkLimit = 40

  private static func kind(_ path: String) throws(CheckpointError) -> Kind {
    var path = path
    for _ in 0..<linkLimit {
      if let number = descriptor(of: path) {
        guard fcntl(number, F_GETFD) >= 0 else {
          throw CheckpointError(path, "the descriptor \(number) is not open")
        }
        return .descriptor(number)
      }
      var status = stat()
      guard unsafe lstat(path, &status) == 0 else {
        // A part of the path may be missing, or be no folder: the check of the folder says which.
        guard errno == ENOENT || errno == ENOTDIR, !path.hasSuffix("/") else {
          throw CheckpointError(path, "cannot be created: \(systemError())")
        }
        return try file(path, existing: nil)
      }
      switch status.st_mode & S_IFMT {
      case S_IFLNK: path = try target(ofLink: path)
      case S_IFREG: return try file(path, existing: status)
      case S_IFDIR: throw CheckpointError(path, "is a folder, expected the name of a file")
      default:
        if unsafe access(path, W_OK) != 0 {
          throw CheckpointError(path, "cannot be written: \(systemError())")
        }
        return .stream(path: path)
      }
    }
    throw CheckpointError(path, "is a loop of symbolic links")
  }

  private static func file(_ path: String, existing: stat?) throws(CheckpointError) -> Kind {
    if existing != nil, unsafe access(path, W_OK) != 0 {
      throw CheckpointError(path, "cannot be written: \(systemError())")
    }
    let slash = path.lastIndex(of: "/")
    let folder = slash.map { String(path[...$0]) } ?? "."
    if unsafe access(folder, W_OK | X_OK) != 0 {
      throw CheckpointError(path, "cannot be created in the folder \(quoted(folder)): \(systemError())")
    }
    let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
    return .file(folder: folder, name: name, existing: existing)
  }

  private static func target(ofLink path: String) throws(CheckpointError) -> String {
    var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = unsafe bytes.withUnsafeMutableBytes { buffer in
      unsafe readlink(path, buffer.baseAddress!.assumingMemoryBound(to: CChar.self), buffer.count)
    }
    if count < 0 { throw CheckpointError(path, "the link cannot be read: \(systemError())") }
    let target = String(decoding: bytes[..<count], as: UTF8.self)
    if target.hasPrefix("/") { return target }
    return (path.lastIndex(of: "/").map { String(path[...$0]) } ?? "") + target
  }

  /// The number of a descriptor of this process, where `path` is a name of one.
  private static func descriptor(of path: String) -> Int32? {
    let folders = ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/", "/proc/\(getpid())/fd/"]
    guard let folder = folders.first(where: { path.hasPrefix($0) }) else { return nil }
    return Int32(path.dropFirst(folder.count)).flatMap { $0 >= 0 ? $0 : nil }
  }
}

/// A file as the system knows it, whatever its names.
package struct FileIdentity: Hashable, Sendable {
  private let device: UInt64
  private let number: UInt64

  init(_ status: stat) {
    device = UInt64(status.st_dev)
    number = UInt64(status.st_ino)
  }

  /// The regular file that `path` leads to; nil where there is none.
  package init?(path: String) {
    var status = stat()
    guard unsafe stat(path, &status) == 0, status.isRegular else { return nil }
    self.init(status)
  }
}

extension stat {
  fileprivate var isRegular: Bool { st_mode & S_IFMT == S_IFREG }
}
