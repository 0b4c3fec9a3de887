/// Rows `[M, width]` in the order and the format in which a grouped product reads them.
package struct RowTiles {
  let memory: Memory
  let groups: RowGroups
  let width: Int
  let precision: Precision
}

/// The packed weights that a grouped product multiplies by.
struct Panels {
  let memory: Memory
  /// The size of k.
  let depth: Int
  let precision: Precision
}

/// The values of a pass through a set of networks, in the order in which it computes them.
package struct NetworkTiles {
  /// `[M, D]`: the input rows of the networks.
  let input: RowTiles
  /// `[M, columns of the first product]`: gate and up before the activation, in fp32; nil if not recorded.
  let preactivation: RowTiles?
  /// `[M, F]`: the rows between the two products.
  let hidden: RowTiles
  /// `[M, D]`: the output rows of the networks; nil if they were not requested.
  package let rows: MemoryView<Float>?

  package var groups: RowGroups { input.groups }
}

/// The gradients of a pass through a set of networks, in the order in which the backward pass computes them.
package struct NetworkGradientTiles {
  /// The recorded pass.
  let forward: NetworkTiles
  /// `[M, D]`: dL/doutput.
  let output: RowTiles
  /// `[M, columns of the first product]`: dL/d(gate, up).
  let preactivation: RowTiles
  /// `[M, D]`: dL/dinput.
  package let rows: MemoryView<Float>

  package var groups: RowGroups { output.groups }
}

/// The factors whose products are the gradients of the parameters of a router.
package struct RouterGradientTiles {
  /// `[T, E]`: dL/dlogits.
  let logits: RowTiles
  /// `[T, D]`: the tokens as the router read them.
  let tokens: RowTiles
}
