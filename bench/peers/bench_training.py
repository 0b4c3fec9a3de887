#!/usr/bin/env python3
"""A training step of one MoE layer, ours beside PyTorch autograd: recorded forward, and backward to the gradients of
the input and of every parameter. SwiGLU experts, softmax over all experts, top-k, normalised.

Each contender is a process of its own; they take turns in rounds, and what is printed are medians over all calls.
PyTorch runs its fastest form: one parameter an expert, rows sorted by expert, one index_add of all.

    python bench/peers/bench_training.py --worker bench/.build/release/moe-bench --tokens 512,2048

Wants PyTorch importable by the interpreter that runs it.
"""
import argparse
import sys

from contenders import Contender, interleaved, report, require_torch, serve


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help="the program moe-bench")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--feed-forward", type=int, default=3584)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--top-k", type=int, default=2)
    parser.add_argument("--tokens", default="512,2048")
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="the least of a turn")
    parser.add_argument("--torch-dtype", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(options):
    sizes = ["--H", options.hidden, "--F", options.feed_forward, "--E", options.experts, "--k", options.top_k]
    for dtype in options.dtypes.split(","):
        ours = Contender(
            [options.worker, "worker", "--train", *map(str, sizes), "--dtype", dtype, "--act", "silu",
             "--threads", str(options.threads), "--Ts", options.tokens], options.threads)
        torch = Contender([sys.executable, *sys.argv, "--torch-dtype", dtype], options.threads)
        for tokens in map(int, options.tokens.split(",")):
            times = interleaved([ours, torch], tokens, options.rounds, options.seconds)
            # Three products of [hidden, feed-forward] forward, and each has two backward.
            flops = 18 * tokens * options.top_k * options.hidden * options.feed_forward
            report(f"{dtype} T={tokens:<5}", times, flops)
        ours.quit()
        torch.quit()


def serve_torch(options):
    import torch

    from torch_layer import Layer

    torch.set_num_threads(options.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.torch_dtype]
    layer = Layer(options.hidden, options.feed_forward, options.experts, options.top_k, dtype)
    batches = {}

    def step(tokens):
        if tokens not in batches:
            batches[tokens] = (torch.randn(tokens, options.hidden).to(dtype).requires_grad_(),
                               torch.randn(tokens, options.hidden).to(dtype))
        x, gradient = batches[tokens]
        for tensor in [x, *layer.parameters()]:
            tensor.grad = None
        layer(x).backward(gradient)

    print(f"PyTorch {torch.__version__}")
    serve("torch_autograd", step)


def main():
    options = parse()
    require_torch()
    if options.torch_dtype:
        serve_torch(options)
    elif not options.worker:
        sys.exit("--worker is missing: the path of moe-bench")
    else:
        compare(options)


main()
