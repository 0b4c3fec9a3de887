"""Contenders of a bench: processes that answer 'run NAME T SECONDS' with 'times MS MS …' until 'quit'."""
import os
import statistics
import subprocess
import sys
import time


class Contender:
    """The calling side of one process."""

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


def interleaved(contenders, tokens, rounds, seconds):
    """Times of all calls of each contender, which take turns; one untimed call before the first round."""
    times = {contender: [] for contender in contenders}
    for contender in contenders:
        contender.run(tokens, 0)
    for _ in range(rounds):
        for contender in contenders:
            # Threads of the contender before spin for a while after their turn.
            time.sleep(0.3)
            times[contender] += contender.run(tokens, seconds)
    return times


def report(label, times, flops):
    """One line for each contender, and the ratio of each other's median to the first one's."""
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    for contender, median in medians.items():
        print(
            f"{label} {contender.name:16} median {median:8.2f} ms  min {min(times[contender]):8.2f} ms  "
            f"{1e-6 * flops / median:7.1f} GFLOP/s  {len(times[contender])} calls")
    ours, *others = medians
    for other in others:
        print(f"{label} ratio to {other.name} {medians[other] / medians[ours]:.2f}", flush=True)


def serve(name, call):
    """The answering side: `call(tokens)` is one timed call of the contender `name`."""
    print(f"ready {name}", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "quit":
            return
        tokens, seconds = int(words[2]), float(words[3])
        times = []
        while not times or sum(times) < seconds * 1e3:
            start = time.perf_counter()
            call(tokens)
            times.append((time.perf_counter() - start) * 1e3)
        print("times", *(f"{value:.5f}" for value in times), flush=True)


def require_torch():
    try:
        import torch  # noqa: F401
    except ImportError:
        sys.exit(f"PyTorch is not importable by {sys.executable}: run this with an interpreter that has it")
