import Glibc

/// Makes folders.
package enum Folder {
  /// Makes the folder `path`, and those around it that are missing.
  ///
  /// - Throws: ``CheckpointError`` naming the folder that cannot be made, and why.
  package static func create(_ path: String) throws(CheckpointError) {
    if path.utf8.contains(0) { throw CheckpointError(quoted(path), "a path cannot contain a zero byte") }
    if path.isEmpty { throw CheckpointError(quoted(path), "is not the name of a folder") }
    if unsafe mkdir(path, 0o777) == 0 { return }
    let number = errno
    if number == ENOENT, let slash = path.dropLast().lastIndex(of: "/"), slash > path.startIndex {
      try create(String(path[..<slash]))
      if unsafe mkdir(path, 0o777) == 0 { return }
      if errno != EEXIST { throw CheckpointError(path, "the folder cannot be made: \(systemError())") }
    } else if number != EEXIST {
      throw CheckpointError(path, "the folder cannot be made: \(unsafe String(cString: strerror(number)))")
    }
    var status = stat()
    guard unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
      throw CheckpointError(path, "is a file or a link to nothing, expected the name of a folder")
    }
  }
}
