import Glibc

/// A file that appears whole or not at all.
package struct AtomicFile: ~Copyable {
  private let descriptor: Int32
  private let temporary: String

  /// Puts `bytes` at `path`.
  ///
  /// - Throws: ``CheckpointError`` naming the step that failed.
  package static func write(_ bytes: [UInt8], to path: String) throws(CheckpointError) {
    try write(to: path) { (file) throws(CheckpointError) in try file.append(bytes) }
  }

  /// Calls `body` to fill a temporary file beside `path`, flushes it to the disk and renames it to `path`.
  static func write(
    to path: String, _ body: (borrowing AtomicFile) throws(CheckpointError) -> Void
  ) throws(CheckpointError) {
    try check(path)
    let temporary = "\(path).\(getpid()).\(UInt64.random(in: 0 ... .max)).tmp"
    let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw CheckpointError(path, "cannot be created: \(systemError())") }
    let file = AtomicFile(descriptor: descriptor, temporary: temporary)
    var isOpen = true
    do throws(CheckpointError) {
      try body(file)
      if fsync(descriptor) != 0 { throw CheckpointError(path, "cannot be flushed: \(systemError())") }
      isOpen = false
      if close(descriptor) != 0 { throw CheckpointError(path, "cannot be closed: \(systemError())") }
      if unsafe rename(temporary, path) != 0 {
        throw CheckpointError(path, "cannot be put in place: \(systemError())")
      }
    } catch {
      if isOpen { close(descriptor) }
      unsafe unlink(temporary)
      // The caller knows the file by its own name, not the temporary one.
      throw CheckpointError(path, error.complaint)
    }
    flush(folder: folder(of: path))
  }

  /// Checks that a file can be put at `path`, as far as that can be known before it is.
  ///
  /// Whatever is there and not a regular file is refused: renaming would replace a device or a pipe.
  static func check(_ path: String) throws(CheckpointError) {
    if path.utf8.contains(0) { throw CheckpointError(quoted(path), "a path cannot contain a zero byte") }
    if path.isEmpty { throw CheckpointError(quoted(path), "is not the name of a file") }
    var status = stat()
    if unsafe stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
      throw CheckpointError(
        path,
        status.st_mode & S_IFMT == S_IFDIR
          ? "is a folder, expected the name of a file" : "is not a regular file and cannot be replaced by one"
      )
    }
    let folder = folder(of: path)
    if unsafe access(folder, W_OK | X_OK) != 0 {
      throw CheckpointError(path, "cannot be created in the folder \(quoted(folder)): \(systemError())")
    }
  }

  private static func folder(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
  }

  /// Writes `bytes` at the end.
  func append(_ bytes: [UInt8]) throws(CheckpointError) {
    var written = 0
    while written < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Glibc.write(descriptor, buffer.baseAddress! + written, buffer.count - written)
      }
      if count > 0 {
        written += count
      } else if count == 0 || errno != EINTR {
        throw CheckpointError(temporary, "cannot be written: \(systemError())")
      }
    }
  }

  /// Makes renamings in a folder last; a file system that cannot do it has no more to give.
  package static func flush(folder: String) {
    let descriptor = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if descriptor < 0 { return }
    fsync(descriptor)
    close(descriptor)
  }
}
