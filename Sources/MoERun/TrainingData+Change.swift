extension TrainingData {
  /// Returns the first difference to another text, in words; nil where both are equal.
  public func change(to other: TrainingData) -> String? {
    if self == other { return nil }
    func bytes(_ file: TextFile) -> Int { file.trainBytes + file.validationBytes }
    for (old, new) in zip(files, other.files) where old != new {
      if old.path == new.path, old.label == new.label {
        return "\(old.path) had \(bytes(old)) bytes and has \(bytes(new)) now, or other ones are held out"
      }
      if !other.files.contains(old) { return "\(old.path) is gone, or has changed" }
      return "\(new.path) was not among the texts"
    }
    if let gone = files.dropFirst(other.files.count).first { return "\(gone.path) is gone" }
    if let new = other.files.dropFirst(files.count).first { return "\(new.path) was not among the texts" }
    return "a file has as many bytes as then, and others"
  }
}
