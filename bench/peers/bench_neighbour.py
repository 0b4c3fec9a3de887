#!/usr/bin/env python3
"""An MoE layer beside PyTorch's while other processes keep cores busy, as on a machine that is shared.

The same contenders take turns twice: on the machine as it is, and with --neighbours processes that compute without end.

    python bench/peers/bench_neighbour.py --worker bench/.build/release/moe-bench --tokens 1,16,512

Needs an interpreter that can import PyTorch.
"""
import argparse
import subprocess
import sys

from contenders import Contender, interleaved, report, require_torch, serve


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help="the program moe-bench")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--feed-forward", type=int, default=3584)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--top-k", type=int, default=2)
    parser.add_argument("--tokens", default="1,16,512")
    parser.add_argument("--dtype", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--neighbours", type=int, default=1, help="busy processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="the least of a turn")
    parser.add_argument("--serve-torch", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(options):
    sizes = ["--H", options.hidden, "--F", options.feed_forward, "--E", options.experts, "--k", options.top_k]
    ours = Contender(
        [options.worker, "worker", *map(str, sizes), "--dtype", options.dtype, "--act", "silu",
         "--threads", str(options.threads), "--Ts", options.tokens], options.threads)
    torch = Contender([sys.executable, *sys.argv, "--serve-torch"], options.threads)
    for count in [0, options.neighbours]:
        neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            for tokens in map(int, options.tokens.split(",")):
                times = interleaved([ours, torch], tokens, options.rounds, options.seconds)
                flops = 6 * tokens * options.top_k * options.hidden * options.feed_forward
                report(f"{options.dtype} T={tokens:<5} neighbours {count}", times, flops)
        finally:
            for neighbour in neighbours:
                neighbour.kill()
    ours.quit()
    torch.quit()


def serve_torch(options):
    import torch

    from torch_layer import Layer

    torch.set_num_threads(options.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    layer = Layer(options.hidden, options.feed_forward, options.experts, options.top_k, dtype)
    inputs, calls = {}, {}

    def call(tokens):
        # Few tokens take 16 inputs in turn, so that weights come from memory, as the other contender does it.
        if tokens not in inputs:
            inputs[tokens] = [torch.randn(tokens, options.hidden).to(dtype) for _ in range(16 if tokens <= 16 else 1)]
        calls[tokens] = calls.get(tokens, 0) + 1
        with torch.inference_mode():
            layer(inputs[tokens][calls[tokens] % len(inputs[tokens])])

    print(f"PyTorch {torch.__version__}")
    serve("torch", call)


def main():
    options = parse()
    require_torch()
    if options.serve_torch:
        serve_torch(options)
    elif not options.worker:
        sys.exit("--worker is missing: the path of moe-bench")
    else:
        compare(options)


main()
