import Glibc

/// The bytes of a file, mapped into memory and read on demand, or bytes held in memory.
///
/// The length is the one that the file had when it was opened. As with every mapped file, no process may shorten it while
/// it is in use.
///
/// `@unchecked Sendable`: the bytes are never written.
@safe final class MappedBytes: @unchecked Sendable {
  private let bytes: UnsafeRawBufferPointer
  private let isMapped: Bool

  var count: Int { unsafe bytes.count }

  /// Maps the file at `path`.
  ///
  /// - Throws: ``CheckpointError`` unless it is a regular file that can be read.
  init(path: String) throws(CheckpointError) {
    if path.utf8.contains(0) { throw CheckpointError(quoted(path), "a path cannot contain a zero byte") }
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if descriptor < 0 { throw CheckpointError(path, "cannot be opened: \(systemError())") }
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else {
      throw CheckpointError(path, "cannot be examined: \(systemError())")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw CheckpointError(
        path, status.st_mode & S_IFMT == S_IFDIR ? "is a folder, not a regular file" : "is not a regular file"
      )
    }
    isMapped = status.st_size > 0
    if isMapped {
      let base = unsafe mmap(nil, status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0)
      guard unsafe base != MAP_FAILED else {
        throw CheckpointError(path, "cannot be mapped into memory: \(systemError())")
      }
      unsafe bytes = UnsafeRawBufferPointer(start: base, count: status.st_size)
    } else {
      unsafe bytes = UnsafeRawBufferPointer(start: nil, count: 0)
    }
  }

  /// Copies `array`.
  init(_ array: [UInt8]) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: array.count, alignment: 16)
    unsafe copy.copyBytes(from: array)
    unsafe bytes = UnsafeRawBufferPointer(copy)
    isMapped = false
  }

  deinit {
    if isMapped {
      unsafe munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
    } else {
      unsafe bytes.deallocate()
    }
  }

  /// Returns a copy of the bytes of `range`.
  ///
  /// - Precondition: the range lies within the bytes.
  func copy(_ range: Range<Int>) -> [UInt8] { unsafe Array(bytes[range]) }

  /// Calls `body` with the bytes of `range`, which need not be aligned. The pointer is valid inside `body` alone.
  ///
  /// - Precondition: the range lies within the bytes.
  func withBytes<Result>(_ range: Range<Int>, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    unsafe body(UnsafeRawBufferPointer(rebasing: bytes[range]))
  }
}

/// Returns the reason why the last call of the system failed.
func systemError() -> String { unsafe String(cString: strerror(errno)) }

/// Whether there is something at `path` that is not a folder.
func isFile(_ path: String) -> Bool {
  var status = stat()
  return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFDIR
}

/// Returns the bytes of a regular file.
///
/// - Throws: ``CheckpointError`` where it is no regular file, cannot be read, or is longer than `limit` bytes.
package func contents(ofFile path: String, atMost limit: Int) throws(CheckpointError) -> [UInt8] {
  let bytes = try MappedBytes(path: path)
  guard bytes.count <= limit else {
    throw CheckpointError(path, "is \(bytes.count) bytes long, expected at most \(limit)")
  }
  return bytes.copy(0..<bytes.count)
}
