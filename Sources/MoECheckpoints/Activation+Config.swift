import MoECore

extension ConfigFile {
  /// Returns the activation of experts with a gate, from its name in transformers.
  func gatedActivation(_ key: String) throws(CheckpointError) -> ActivationFunction {
    let name = try string(key, default: "silu")
    switch name {
    case "silu", "swish": return .swiGLU
    case "gelu", "gelu_python": return .geGLU
    case "gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh": return .geGLUTanh
    default: throw unsupported(key, name, "silu, gelu, gelu_new or gelu_pytorch_tanh")
    }
  }

  /// Returns the activation of experts without a gate, from its name in transformers.
  func plainActivation(_ key: String) throws(CheckpointError) -> ActivationFunction {
    let name = try string(key, default: "relu")
    switch name {
    case "relu": return .relu
    case "gelu", "gelu_python": return .gelu
    case "gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh": return .geluTanh
    default: throw unsupported(key, name, "relu, gelu, gelu_new or gelu_pytorch_tanh")
    }
  }

  private func unsupported(_ key: String, _ name: String, _ known: String) -> CheckpointError {
    CheckpointError(path, "\(quoted(key)) is \(quoted(name)), supported is \(known)")
  }
}
