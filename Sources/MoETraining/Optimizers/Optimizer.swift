public import MoE

/// A rule that moves parameters down their gradients.
///
/// Weight decay is decoupled in all of them: a parameter that decays loses learning rate · λ of itself with every
/// step (Loshchilov and Hutter 2019), beside what its gradient does.
public protocol Optimizer: AnyObject {
  /// Changes every parameter; gradients stay as they are.
  ///
  /// - Parameter update: the step's number and rates.
  func step(_ update: OptimizerUpdate)

  /// What the rule keeps beside the parameters, matrix by matrix: a checkpoint's part.
  var state: [OptimizerState] { get }
}

/// What one step of an optimizer is told.
public struct OptimizerUpdate: Sendable {
  /// t, from 1.
  public var number: Int
  /// The learning rate of each group.
  public var learningRate: GroupValues<Double>
  /// What gradients are multiplied with first, as clipping asks.
  public var gradientScale: GroupValues<Float>

  /// Collects them.
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
  /// That of routed experts.
  public var expert: Value
  /// That of all others.
  public var other: Value

  /// Two values.
  public init(expert: Value, other: Value) { (self.expert, self.other) = (expert, other) }
  /// The same value twice.
  public init(both value: Value) { self.init(expert: value, other: value) }

  /// The value of a group.
  public subscript(group: Parameter.Group) -> Value { group == .expert ? expert : other }
}

/// A matrix of an optimizer's memory, as a checkpoint names it.
public struct OptimizerState {
  /// Its name, such as `optimizer.m.embedding`.
  public let name: String
  /// `[rows, columns]`.
  public let shape: [Int]
  /// Returns a copy of the matrix.
  public let read: () -> Matrix
  /// Overwrites the matrix by one of the same shape.
  public let write: (Matrix) -> Void

  /// The matrices of `memory`, one in the layout of each parameter.
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

  /// Zeros in the layout of each parameter.
  static func zeros(like parameters: [Parameter]) throws(MoEError) -> [Memory] {
    var memory: [Memory] = []
    for parameter in parameters {
      memory.append(try Memory(zeroed: parameter.count * MemoryLayout<Float>.stride))
    }
    return memory
  }
}
