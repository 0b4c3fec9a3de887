internal import CKernels
internal import MoE

/// The calls into CKernels/optimizer.c.
enum OptimizerKernels {
  static func adamW(
    _ rule: moe_adamw_rule, _ parameter: Parameter, mean: Memory, variance: Memory, _ execution: Execution
  ) {
    var rule = rule
    unsafe moe_adamw(
      execution.cValue, &rule, parameter.gradient.floats, Int64(parameter.count), parameter.values.floats,
      mean.floats, variance.floats)
  }

  static func sgd(
    _ rule: moe_sgd_rule, _ parameter: Parameter, velocity: Memory?, _ execution: Execution
  ) {
    var rule = rule
    unsafe moe_sgd(
      execution.cValue, &rule, parameter.gradient.floats, Int64(parameter.count), parameter.values.floats,
      velocity?.floats)
  }
}
