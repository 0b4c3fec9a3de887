import Glibc

/// A file that appears whole or not at all. Where the path stands for a pipe or a device, its bytes are written there.
package struct AtomicFile: ~Copyable {
  private let descriptor: Int32

  /// Writes `bytes` to `path`, as ``write(to:_:)`` does.
  ///
  /// - Throws: ``CheckpointError`` naming the step that failed.
  package static func write(_ bytes: [UInt8], to path: String) throws(CheckpointError) {
    try write(to: path) { (file) throws(CheckpointError) in try file.append(bytes) }
  }

  /// Calls `body` to fill a temporary file beside the one that `path` leads to, flushes it to the disk and renames it.
  ///
  /// An existing file keeps its mode and, where the system permits it, its owner. Where `path` leads to a pipe or a
  /// device, `body` writes there.
  ///
  /// - Throws: ``CheckpointError`` naming the step that failed; an existing file is whole then, and nothing is left
  ///   beside it.
  package static func write(
    to path: String, _ body: (borrowing AtomicFile) throws(CheckpointError) -> Void
  ) throws(CheckpointError) {
    let target = try OutputTarget(path)
    do throws(CheckpointError) {
      switch target.kind {
      case .file(let folder, let name, let existing): try replace(name, of: folder, existing, body)
      case .stream(let path): try fill(unsafe open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY), body)
      case .descriptor(let number): try fill(fcntl(number, F_DUPFD_CLOEXEC, 3), body)
      }
    } catch {
      // The caller knows the file by its own name, not by the temporary one.
      throw CheckpointError(path, error.complaint)
    }
  }

  /// Checks that a file can be written to `path`, as far as that can be known before it is, and that it is none of
  /// `inputs`, under whatever name.
  ///
  /// - Throws: ``CheckpointError`` naming `path` and, where it is one, the input.
  package static func check(_ path: String, isNoneOf inputs: [String] = []) throws(CheckpointError) {
    guard let identity = try OutputTarget(path).identity else { return }
    for input in inputs where FileIdentity(path: input) == identity {
      throw CheckpointError(
        path,
        "is the input \(quoted(input)), which would be overwritten; expected the name of another file")
    }
  }

  /// Whether `name` is one that a temporary file has.
  package static func isTemporary(_ name: String) -> Bool {
    name.hasPrefix(temporaryPrefix) && name.hasSuffix(temporarySuffix)
  }

  private static let temporaryPrefix = ".moe-"
  private static let temporarySuffix = ".tmp"

  private static func replace(
    _ name: String, of folder: String, _ existing: stat?,
    _ body: (borrowing AtomicFile) throws(CheckpointError) -> Void
  ) throws(CheckpointError) {
    // Names below the open folder: a path beside a long one might be too long for the system.
    let place = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if place < 0 { throw CheckpointError(folder, "the folder cannot be opened: \(systemError())") }
    defer { close(place) }
    // The name does not contain `name`, which may be as long as the file system permits.
    let random = String(UInt64.random(in: 0 ... .max), radix: 36)
    let temporary = "\(temporaryPrefix)\(getpid())-\(random)\(temporarySuffix)"
    let descriptor = unsafe openat(place, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw CheckpointError(name, "cannot be created: \(systemError())") }
    do throws(CheckpointError) {
      if let existing {
        // Only root may give a file away; everyone else goes on as the owner.
        _ = fchown(descriptor, existing.st_uid, existing.st_gid)
        if fchmod(descriptor, existing.st_mode & 0o7777) != 0 {
          throw CheckpointError(name, "the mode cannot be kept: \(systemError())")
        }
      }
      try body(AtomicFile(descriptor: descriptor))
      if fsync(descriptor) != 0, errno != EINVAL, errno != EOPNOTSUPP {
        throw CheckpointError(name, "cannot be flushed: \(systemError())")
      }
    } catch {
      close(descriptor)
      unsafe unlinkat(place, temporary, 0)
      throw error
    }
    let isClosed = close(descriptor) == 0
    if unsafe !isClosed || renameat(place, temporary, place, name) != 0 {
      let complaint = "cannot be \(isClosed ? "put in place" : "closed"): \(systemError())"
      unsafe unlinkat(place, temporary, 0)
      throw CheckpointError(name, complaint)
    }
    flush(folder: folder)
  }

  /// Calls `body` with an open pipe or device, and closes it.
  private static func fill(
    _ descriptor: Int32, _ body: (borrowing AtomicFile) throws(CheckpointError) -> Void
  ) throws(CheckpointError) {
    if descriptor < 0 { throw CheckpointError("", "cannot be opened for writing: \(systemError())") }
    do throws(CheckpointError) {
      try body(AtomicFile(descriptor: descriptor))
    } catch {
      close(descriptor)
      throw error
    }
    if close(descriptor) != 0 { throw CheckpointError("", "cannot be closed: \(systemError())") }
  }

  /// Writes `bytes` at the end.
  package func append(_ bytes: [UInt8]) throws(CheckpointError) {
    var written = 0
    while written < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Glibc.write(descriptor, buffer.baseAddress! + written, buffer.count - written)
      }
      if count > 0 {
        written += count
      } else if count < 0, errno == EAGAIN || errno == EWOULDBLOCK {
        // A full pipe that does not block.
        var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = unsafe poll(&request, 1, -1)
      } else if count == 0 || errno != EINTR {
        throw CheckpointError("", "cannot be written: \(systemError())")
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
