import MoE
import MoETraining

/// The mean over tokens of half the squared distance, and its gradient, both of `[T, D]`.
func squaredError(_ output: Activations, _ target: Activations) -> (loss: Float, gradient: Activations) {
  var (loss, gradient) = (Float(0), output)
  for token in 0..<output.tokenCount {
    for column in 0..<output.tokens.columns {
      let difference =
        (output.tokens[token, column] - target.tokens[token, column]) / Float(output.tokenCount)
      loss += difference * difference * Float(output.tokenCount) / 2
      gradient.tokens[token, column] = difference
    }
  }
  return (loss, gradient)
}

// 8 experts, of which a token passes two. The layer learns to compute what another one with the same shape computes.
let configuration = try MoEConfiguration(
  hiddenSize: 64, feedForwardSize: 128, expertCount: 8, expertsPerToken: 2)
let teacher = try MoELayer(configuration, weights: MoEWeights.random(for: configuration, seed: 1))
let input = Activations.random([256, 64], seed: 2)
let target = try teacher(input).output

// Master weights in fp32, products in bfloat16; the biases of router and experts begin at 0 and are trained too.
let start = MoEWeights.random(for: configuration, seed: 3).withBiases()
let layer = try TrainedLayer(configuration, weights: start, precision: .bfloat16)
let optimizer = try OptimizerConfiguration(.adamw, weightDecay: 0.01).optimizer(of: layer)
let recording = LayerRecording()
var (output, inputGradient) = (input, input)
for step in 1...200 {
  try layer.forward(input, recording: recording, into: &output)
  let balance = try layer.statistics(of: recording).switchTransformer(coefficient: 0.01)
  let (loss, outputGradient) = squaredError(output, target)
  try layer.backward(
    outputGradient, input: input, recording: recording, losses: balance.gradients, into: &inputGradient)
  let norm = try optimizer.step(learningRate: 1e-3)
  if step == 1 || step % 40 == 0 {
    print("step \(step)  loss \(loss)  load-balance loss \(balance.value)  gradient norm \(norm.all)")
  }
}

// The parameters, for a layer that is only applied.
let trained = try MoELayer(configuration, weights: layer.weights, precision: .bfloat16)
print("tokens per expert \(try trained(input).record.counts)")
