extension RoutingPolicy {
  /// The place where an expert's weight is applied.
  public enum WeightPlacement: Sendable, Equatable {
    /// The weight multiplies the expert's output.
    case output
    /// The weight multiplies the expert's input (Llama 4).
    case input
  }
}
