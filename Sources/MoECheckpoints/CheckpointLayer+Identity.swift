extension CheckpointLayer {
  /// The bytes of a tensor that are looked at, at each of three places.
  private static let sampleBytes = 4096

  /// Calls `body` with bytes that tell the block from another one and are cheap to read: config.json, and of each tensor
  /// its name, type and shape and its first, middle and last 4 KiB. In which shards the tensors are changes nothing. The
  /// pointers are valid inside `body` alone.
  ///
  /// - Throws: ``CheckpointError`` where a tensor cannot be read.
  package func forEachIdentifyingPiece(
    _ body: (UnsafeRawBufferPointer) -> Void
  ) throws(CheckpointError) {
    unsafe folder.configBytes.withUnsafeBytes { unsafe body($0) }
    try forEachTensor { (name, _, _) throws(CheckpointError) in
      let name = "\(prefix).\(name)"
      let file = try folder.file(of: name)
      let tensor = try file.tensor(name)
      unsafe Array("\(name) \(tensor.type) \(tensor.shape)".utf8).withUnsafeBytes { unsafe body($0) }
      try unsafe file.withBytes(named: name) { bytes in
        let size = min(Self.sampleBytes, bytes.count)
        for start in [0, (bytes.count - size) / 2, bytes.count - size] {
          unsafe body(UnsafeRawBufferPointer(rebasing: bytes[start..<start + size]))
        }
      }
    }
  }
}
