#!/usr/bin/env python3
"""A training step of one MoE layer, ours beside PyTorch autograd: recorded forward, and backward to the gradients of
the input and of every parameter. SwiGLU experts, softmax over all experts, top-k, normalised.

Each contender is a process of its own; they take turns in rounds, and what is printed are medians over all calls.
PyTorch runs its fastest form: one parameter an expert, rows sorted by expert, one index_add of all.

    python bench/peers/bench_training.py --worker bench/.build/release/moe-bench --tokens 512,2048

Wants PyTorch importable by the interpreter that runs it.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time


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


class Contender:
    """A process that answers 'run NAME T SECONDS' with 'times MS MS …' until 'quit'."""

    def __init__(self, command, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        while True:
            words = self.line().split()
            if words[0] == "ready" and len(words) == 2:
                self.name = words[1]
                return
            print("#", *words)

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended early, with status {self.process.wait()}")
        return line

    def run(self, tokens, seconds):
        self.process.stdin.write(f"run {self.name} {tokens} {seconds}\n")
        self.process.stdin.flush()
        words = self.line().split()
        if words[0] != "times":
            sys.exit(f"{self.name} answered {' '.join(words)!r}")
        return [float(word) for word in words[1:]]

    def quit(self):
        self.process.stdin.write("quit\n")
        self.process.stdin.flush()
        self.process.wait()


def compare(options):
    sizes = ["--H", options.hidden, "--F", options.feed_forward, "--E", options.experts, "--k", options.top_k]
    for dtype in options.dtypes.split(","):
        ours = Contender(
            [options.worker, "worker", "--train", *map(str, sizes), "--dtype", dtype, "--act", "silu",
             "--threads", str(options.threads), "--Ts", options.tokens], options.threads)
        torch = Contender([sys.executable, *sys.argv, "--torch-dtype", dtype], options.threads)
        for tokens in map(int, options.tokens.split(",")):
            times = {ours: [], torch: []}
            for contender in times:
                contender.run(tokens, 0)
            for _ in range(options.rounds):
                for contender in times:
                    # Threads of the other spin for a while after their turn.
                    time.sleep(0.3)
                    times[contender] += contender.run(tokens, options.seconds)
            # Three products of [hidden, feed-forward] forward, and each has two backward.
            flops = 18 * tokens * options.top_k * options.hidden * options.feed_forward
            medians = {contender: statistics.median(values) for contender, values in times.items()}
            for contender, median in medians.items():
                print(
                    f"{dtype} T={tokens:<5} {contender.name:16} median {median:8.1f} ms  "
                    f"min {min(times[contender]):8.1f} ms  {1e-6 * flops / median:7.1f} GFLOP/s  "
                    f"{len(times[contender])} calls")
            print(f"{dtype} T={tokens:<5} ratio {medians[torch] / medians[ours]:.2f}", flush=True)
        ours.quit()
        torch.quit()


def serve_torch(options):
    import torch
    from torch.nn import functional

    torch.set_num_threads(options.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.torch_dtype]
    hidden, inner, experts = options.hidden, options.feed_forward, options.experts
    torch.manual_seed(7)

    def parameter(*shape):
        return (torch.randn(*shape) * shape[-1] ** -0.5).to(dtype).requires_grad_()

    router = parameter(experts, hidden)
    up = [parameter(2 * inner, hidden) for _ in range(experts)]
    down = [parameter(hidden, inner) for _ in range(experts)]
    batches = {}

    def layer(x):
        probabilities = torch.softmax(functional.linear(x, router).float(), -1)
        weights, ids = torch.topk(probabilities, options.top_k, -1)
        weights = (weights / weights.sum(-1, keepdim=True)).to(dtype)
        ids, order = ids.flatten().sort()
        token = order // options.top_k
        rows = x[token].split(torch.bincount(ids, minlength=experts).tolist())
        outputs = []
        for expert in range(experts):
            gate, linear = functional.linear(rows[expert], up[expert]).chunk(2, -1)
            outputs.append(functional.linear(functional.silu(gate) * linear, down[expert]))
        weighted = torch.cat(outputs) * weights.flatten()[order, None]
        return torch.zeros_like(x).index_add(0, token, weighted)

    def step(tokens):
        if tokens not in batches:
            batches[tokens] = (torch.randn(tokens, hidden).to(dtype).requires_grad_(),
                               torch.randn(tokens, hidden).to(dtype))
        x, gradient = batches[tokens]
        for tensor in [x, router, *up, *down]:
            tensor.grad = None
        layer(x).backward(gradient)

    print(f"PyTorch {torch.__version__}")
    print("ready torch_autograd", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "quit":
            return
        tokens, seconds = int(words[2]), float(words[3])
        times = []
        while not times or sum(times) < seconds * 1e3:
            start = time.perf_counter()
            step(tokens)
            times.append((time.perf_counter() - start) * 1e3)
        print("times", *(f"{value:.5f}" for value in times), flush=True)


def main():
    options = parse()
    try:
        import torch  # noqa: F401
    except ImportError:
        sys.exit(f"PyTorch is not importable by {sys.executable}: run this with an interpreter that has it")
    if options.torch_dtype:
        serve_torch(options)
    elif not options.worker:
        sys.exit("--worker is missing: the path of moe-bench")
    else:
        compare(options)


main()
