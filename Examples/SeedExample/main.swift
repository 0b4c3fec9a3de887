import MoE

// Batch 4, sequence 16, hidden 512, feed-forward 2048, 8 experts, top-2.
let layer = try Top2Layer(hiddenSize: 512, feedForwardSize: 2048, expertCount: 8)
let (output, record) = try layer(.random([4, 16, 512], seed: 1))
print("output \(output.shape), load-balance loss \(record.loadBalanceLoss)")
print("tokens per expert \(record.counts)")
