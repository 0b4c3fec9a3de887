public import MoE

/// A rule that changes parameters against their gradients.
///
/// Weight decay is decoupled in all rules: a parameter that decays loses learning rate · λ of itself in every step
/// (Loshchilov and Hutter 2019), in addition to the change by its gradient.
public protocol Optimizer: AnyObject {
  /// Changes every parameter. The gradients are not changed.
  ///
  /// - Parameter update: the step's number and rates.
  func step(_ update: OptimizerUpdate)

  /// The matrices that the rule keeps beside the parameters, as a checkpoint has them.
  var state: [OptimizerState] { get }
}

/// The number and rates of one step of an optimizer.
public struct OptimizerUpdate: Sendable {
  /// t, the number of the step, from 1.
  public var number: Int
  /// The learning rate of each group.
  public var learningRate: GroupValues<Double>
  /// The factor by which the gradients of each group are multiplied first, because of clipping.
  public var gradientScale: GroupValues<Float>

  /// Collects the three values.
  public init(
    number: Int, learningRate: GroupValues<Double>, gradientScale: GroupValues<Float> = .init(both: 1)
  ) {
    self.number = number
    self.learningRate = learningRate
    self.gradientScale = gradientScale
  }
}

/// A value for each group of parameters.
public struct GroupValues<Value: Sendable>: Sendable {
  /// The value of routed experts.
  public var expert: Value
  /// The value of all other parameters.
  public var other: Value

  /// Collects the two values.
  public init(expert: Value, other: Value) { (self.expert, self.other) = (expert, other) }
  /// Gives both groups one value.
  public init(both value: Value) { self.init(expert: value, other: value) }

  /// Returns the value of a group.
  public subscript(group: Parameter.Group) -> Value { group == .expert ? expert : other }
}

/// A matrix that an optimizer keeps, as a checkpoint names it.
public struct OptimizerState {
  /// Its name, such as `optimizer.m.embedding`.
  public let name: String
  /// `[rows, columns]`.
  public let shape: [Int]
  /// Returns a copy of the matrix.
  public let read: () -> Matrix
  /// Replaces the values by those of a matrix of this shape.
  public let write: (Matrix) -> Void

  /// Returns the matrices of `memory`, which has one memory in the layout of each parameter.
  static func matrices(
    _ kind: String, _ parameters: [Parameter], _ memory: [Memory]
  ) -> [OptimizerState] {
    zip(parameters, memory).flatMap { parameter, memory in
      parameter.tensors.map { tensor in
        OptimizerState(
          name: "optimizer.\(kind).\(tensor.name)", shape: tensor.shape,
          read: { parameter.matrix(tensor, in: memory) },
          write: { parameter.set($0, tensor, in: memory) })
      }
    }
  }

  /// Returns memories of zeros in the layout of each parameter.
  static func zeros(like parameters: [Parameter]) throws(MoEError) -> [Memory] {
    var memory: [Memory] = []
    for parameter in parameters {
      memory.append(try Memory(zeroed: parameter.count * MemoryLayout<Float>.stride))
    }
    return memory
  }
}
