"""The MoE layer in PyTorch's fastest form: one parameter an expert, rows sorted by expert, one index_add of all."""
import torch
from torch.nn import functional


class Layer:
    """SwiGLU experts, softmax over all experts, top-k, normalised."""

    def __init__(self, hidden, inner, experts, top_k, dtype):
        torch.manual_seed(7)
        self.experts, self.top_k, self.dtype = experts, top_k, dtype

        def parameter(*shape):
            return (torch.randn(*shape) * shape[-1] ** -0.5).to(dtype).requires_grad_()

        self.router = parameter(experts, hidden)
        self.up = [parameter(2 * inner, hidden) for _ in range(experts)]
        self.down = [parameter(hidden, inner) for _ in range(experts)]

    def parameters(self):
        return [self.router, *self.up, *self.down]

    def __call__(self, x):
        probabilities = torch.softmax(functional.linear(x, self.router).float(), -1)
        weights, ids = torch.topk(probabilities, self.top_k, -1)
        weights = (weights / weights.sum(-1, keepdim=True)).to(self.dtype)
        ids, order = ids.flatten().sort()
        token = order // self.top_k
        rows = x[token].split(torch.bincount(ids, minlength=self.experts).tolist())
        outputs = []
        for expert in range(self.experts):
            if len(rows[expert]):
                gate, linear = functional.linear(rows[expert], self.up[expert]).chunk(2, -1)
                outputs.append(functional.linear(functional.silu(gate) * linear, self.down[expert]))
        weighted = torch.cat(outputs) * weights.flatten()[order, None]
        return torch.zeros_like(x).index_add(0, token, weighted)
