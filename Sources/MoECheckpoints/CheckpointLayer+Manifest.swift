import MoECore

extension CheckpointLayer {
  /// Checks that the block has every tensor of its configuration, and no other.
  ///
  /// - Throws: ``CheckpointError`` naming the first tensor that is missing, has another shape, has a type that is not
  ///   read, or is unexpected.
  func check() throws(CheckpointError) {
    var expected = NamedValues<Void>()
    try forEachTensor { (name, shape, isPacked) throws(CheckpointError) in
      let name = "\(prefix).\(name)"
      let file = try folder.file(of: name)
      let tensor = try file.tensor(name)
      guard tensor.shape == shape else {
        throw CheckpointError(
          file.path, "tensor \(quoted(name)) has shape \(tensor.shape), expected \(shape)")
      }
      guard isPacked ? tensor.type == .uint8 : tensor.type.isFloat else {
        throw CheckpointError(
          file.path,
          "tensor \(quoted(name)) is \(tensor.type), expected \(isPacked ? "U8" : "F32, F16 or BF16")"
        )
      }
      expected[name] = ()
    }
    let start = "\(prefix).".utf8
    if let stranger = folder.names.first(where: { $0.utf8.starts(with: start) && expected[$0] == nil }) {
      throw CheckpointError(
        try folder.file(of: stranger).path,
        "tensor \(quoted(stranger)) is unexpected: the block has \(configuration.expertCount) experts "
          + "and \(expected.count) tensors, of which it is none")
    }
  }

  /// Calls `body` for every tensor of the block, with its name, its shape and whether it is packed bytes.
  func forEachTensor(
    _ body: (String, [Int], Bool) throws(CheckpointError) -> Void
  ) throws(CheckpointError) {
    let (hidden, inner, count) = (
      configuration.hiddenSize, configuration.feedForwardSize, configuration.expertCount
    )
    func network(_ prefix: String, _ names: ProjectionNames, _ inner: Int) throws(CheckpointError) {
      if let gate = names.gate { try body(prefix + gate, [inner, hidden], false) }
      try body(prefix + names.up, [inner, hidden], false)
      try body(prefix + names.down, [hidden, inner], false)
    }
    try body(layout.router.weight, [count, hidden], false)
    if let bias = layout.router.bias { try body(bias, [count], false) }
    if let bias = layout.router.selectionBias {
      try body(bias, layout.router.selectionBiasRows + [count], false)
    }
    switch layout.experts {
    case .separate(let names, let prefix):
      for index in 0..<count { try network("experts.\(prefix)\(index).", names, inner) }
    case .stacked(let stacked):
      let parts = stacked.arrangement.parts
      for (name, outputs, inputs) in [(stacked.gateUp, parts * inner, hidden), (stacked.down, hidden, inner)]
      {
        switch stacked.storage {
        case .floats(.outputRows): try body(name, [count, outputs, inputs], false)
        case .floats(.inputRows): try body(name, [count, inputs, outputs], false)
        case .mxfp4:
          let blocks = inputs / MXFP4.blockSize
          try body("\(name)_blocks", [count, outputs, blocks, MXFP4.blockBytes], true)
          try body("\(name)_scales", [count, outputs, blocks], true)
        }
      }
      if let bias = stacked.gateUpBias { try body(bias, [count, parts * inner], false) }
      if let bias = stacked.downBias { try body(bias, [count, hidden], false) }
    }
    if let dense = layout.dense, let branch = configuration.denseBranch {
      try network(dense.prefix, dense.names, branch.feedForwardSize)
      if let gate = dense.gate { try body(gate, [branch.gateRows, hidden], false) }
    }
  }
}
