"""The common frame of the golden routing files: inputs from a seed, rules for reading ties, and the file format.

Every file NAME.safetensors holds the cases of one preset. Its metadata key `cases` is a JSON list with one object for
each case: "seed", "T", "E", "K", "temperament" and the options of the case. The tensors are flat, case after case:
  expert_ids      I8  [sum of T*K]  -1 where the token has no such expert; a choice dropped by capacity keeps its id
  slots           I16 [sum of T*K]  -1 where dropped or without an expert
  weights         F32 [sum of T*K]  0 where dropped or without an expert
  capacity        I32 [cases]       -1 where no capacity is in force
  auxiliary_loss  F32 [cases]       without a coefficient; further losses by their names
  undefined       U8  [cases]       1: the original leaves open which tokens an expert keeps, 2: which experts a token
                                    chooses. The stored numbers are then those of our rule: larger first, then the
                                    smaller index.
"""

import json
import math
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MASK64 = (1 << 64) - 1
GOLDEN_RATIO = 0x9E3779B97F4A7C15
KEPT_OPEN, CHOICE_OPEN = 1, 2
CLOSE = 2e-6  # decisions closer than this, relative to the larger number, are not used: rounding could flip them


# Inputs -------------------------------------------------------------------------------------------------------------


def mix64(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


class SeededGenerator:
    """SplitMix64, as Sources/MoECore/SeededGenerator.swift."""

    def __init__(self, seed):
        self.state = seed & MASK64

    def next(self):
        self.state = (self.state + GOLDEN_RATIO) & MASK64
        return mix64(self.state)

    def uniform(self):
        return np.float32((self.next() >> 40) * 2.0**-24)

    def normal(self):
        total = 0
        for _ in range(3):
            bits = self.next()
            total += (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48)
        return np.float32((total - 6 * 65535) * 2.0**-16)


def half_away_from_zero(value):
    return math.copysign(math.floor(abs(value) + 0.5), value)


def logits(seed, T, E, temperament="plain"):
    """Returns float32 [T, E], drawn row by row."""
    generator = SeededGenerator(seed)
    values = np.array([[generator.normal() for _ in range(E)] for _ in range(T)], np.float32).reshape(T, E)
    if temperament == "sharp":
        values = values * np.float32(4)
    elif temperament == "ties":
        values = np.vectorize(half_away_from_zero, otypes=[np.float32])(values * np.float32(2)) / np.float32(2)
    elif temperament == "skewed":
        values[:, 0] += np.float32(3)
    elif temperament == "underflow":
        values[:, E - 1] -= np.float32(200)
    elif temperament != "plain":
        raise ValueError(temperament)
    return values


def mask(seed, T):
    """Returns bool [T], true for a real token."""
    generator = SeededGenerator(seed)
    return np.array([generator.uniform() >= np.float32(0.2) for _ in range(T)], bool)


def noise_uniform(seed, token, place):
    """Returns a number in (0, 1), as `noise_uniform` of CKernels/noise.h."""
    row = mix64((seed + (token + 1) * GOLDEN_RATIO) & MASK64)
    bits = mix64((row + (place + 1) * GOLDEN_RATIO) & MASK64) >> 41
    return np.float32((bits * 2 + 1) * 2.0**-24)


def uniforms(seed, T, E, choice, first=0):
    """Returns float32 [T, E]: the draws of a choice, for tokens first, first + 1, ..."""
    return np.array(
        [[noise_uniform(seed, first + t, choice * (E + 1) + e) for e in range(E)] for t in range(T)], np.float32
    ).reshape(T, E)


def second_uniforms(seed, T, E, first=0):
    """Returns float32 [T]: the draws that keep or drop the second expert."""
    return np.array([noise_uniform(seed, first + t, (E + 1) + E) for t in range(T)], np.float32)


def gumbels(seed, T, E, choice, first=0):
    return -np.log(-np.log(uniforms(seed, T, E, choice, first)))


def gaussians(seed, T, E, first=0):
    """Returns float32 [T, E] standard normal draws by Box and Muller, computed in double."""
    a = uniforms(seed, T, E, 0, first).astype(np.float64)
    b = uniforms(seed, T, E, 1, first).astype(np.float64)
    return (np.sqrt(-2 * np.log(a)) * np.cos(2 * np.pi * b)).astype(np.float32)


# Decisions ----------------------------------------------------------------------------------------------------------


class TooClose(Exception):
    """A decision that rounding could flip: the case is left out."""


def softmax(z, axis=-1):
    z = np.asarray(z, np.float64)
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    p = e / e.sum(axis=axis, keepdims=True)
    return np.where(p < 2.0**-150, 0, p)  # float32 knows no smaller number


def log_sum_exp(z):
    z = np.asarray(z, np.float64)
    top = z.max(axis=-1)
    return top + np.log(np.exp(z - top[..., None]).sum(axis=-1))


def is_close(a, b):
    return a != b and np.isfinite(a) and np.isfinite(b) and abs(a - b) <= CLOSE * max(abs(a), abs(b))


def largest(scores, count, indices=None):
    """Returns the indices of the `count` largest scores, larger first, then the smaller index, and whether a tie
    crosses the border."""
    indices = range(len(scores)) if indices is None else indices
    order = sorted(indices, key=lambda i: (-scores[i], i))
    for a, b in zip(order[:count], order[1:]):
        if is_close(scores[a], scores[b]):
            raise TooClose
    is_open = 0 < count < len(order) and scores[order[count - 1]] == scores[order[count]]
    return order[:count], is_open


def choose(scores, K):
    """Returns int [T, K], the best experts of each token, and whether a tie crosses the border in any row."""
    rows = [largest(row, K) for row in scores]
    return np.array([row[0] for row in rows], int).reshape(len(scores), K), any(row[1] for row in rows)


def noisy_argmax(scores):
    """Returns the expert of the largest score of each token; the scores are float32 sums with noise."""
    order = np.sort(scores.astype(np.float64), axis=1)
    if np.any(order[:, -1] - order[:, -2] < 1e-5):
        raise TooClose
    return scores.argmax(axis=1)


def below(a, b):
    """Returns a < b elementwise."""
    if np.any((a != b) & (np.abs(a - b) <= CLOSE * np.maximum(np.abs(a), np.abs(b)))):
        raise TooClose
    return a < b


def by_priority(scores):
    """Returns the token order of batch-prioritised routing, and whether it has ties."""
    order, _ = largest(scores, len(scores))
    return order, len(set(scores)) < len(scores)


# Slots --------------------------------------------------------------------------------------------------------------


def choice_then_token(T, K, tokens=None):
    return [(t, k) for k in range(K) for t in (range(T) if tokens is None else tokens)]


def token_then_choice(T, K):
    return [(t, k) for t in range(T) for k in range(K)]


def claim(ids, E, capacity, order):
    """Returns the slots: one claim after another takes the next slot of its expert while one is free."""
    slots = np.full(ids.shape, -1)
    used = [0] * E
    for place in order:
        expert = ids[place]
        if expert < 0:
            continue
        if capacity < 0 or used[expert] < capacity:
            slots[place] = used[expert]
            used[expert] += 1
    return slots


def claim_by_score(ids, scores, E, capacity, ranked=False):
    """Returns the slots where each expert keeps its largest scores, and whether a tie crosses a border. Slots are in
    token order, or with `ranked` in the order of the scores. `ids` and `scores` are [T, K]; a token has an expert at
    most once."""
    slots = np.full(ids.shape, -1)
    is_open = False
    for expert in range(E):
        places = [tuple(place) for place in np.argwhere(ids == expert)]
        if capacity < 0:
            kept = places
        else:
            order, tie = largest([scores[place] for place in places], capacity)
            is_open |= tie
            kept = [places[i] for i in (order if ranked else sorted(order))]
        for slot, place in enumerate(kept):
            slots[place] = slot
    return slots, is_open


def take(scores, ids):
    """Returns the scores of the chosen experts, 0 where there is none."""
    return np.where(ids >= 0, np.take_along_axis(scores, np.maximum(ids, 0), axis=1), 0)


def one_hot(ids, E):
    """Returns float64 [..., E], zero rows for -1."""
    return (np.asarray(ids)[..., None] == np.arange(E)).astype(np.float64)


# Groups -------------------------------------------------------------------------------------------------------------


def in_groups(case, z, real, route):
    """Routes each group of `group_size` tokens by route(z, real, first token) and joins the results; losses are
    means over the groups."""
    size = case.get("group_size", len(z))
    parts = [
        route(z[first : first + size], None if real is None else real[first : first + size], first)
        for first in range(0, len(z), size)
    ]
    joined = {}
    for name, value in parts[0].items():
        values = [part[name] for part in parts]
        if name in ("ids", "slots", "weights"):
            joined[name] = np.concatenate(values)
        elif name == "capacity":
            joined[name] = value
        elif name == "undefined":
            joined[name] = int(np.bitwise_or.reduce(values))
        else:
            joined[name] = float(np.mean(values))
    return joined


# Files --------------------------------------------------------------------------------------------------------------


def write(path, tensors, cases):
    """Writes a safetensors file with the metadata key `cases` and returns its size in bytes."""
    kinds = {"int8": "I8", "int16": "I16", "int32": "I32", "uint8": "U8", "float32": "F32"}
    header = {"__metadata__": {"cases": json.dumps(cases, separators=(",", ":"))}}
    data = b""
    for name in sorted(tensors, key=lambda name: -tensors[name].itemsize):
        array = np.ascontiguousarray(tensors[name])
        end = len(data) + array.nbytes
        header[name] = {"dtype": kinds[array.dtype.name], "shape": list(array.shape), "data_offsets": [len(data), end]}
        data += array.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + data)
    return Path(path).stat().st_size


class Golden:
    """The cases of one preset."""

    def __init__(self, name):
        self.name = name
        self.cases, self.parts = [], {}

    def add(self, case, result):
        """Adds a case; `result` has ids, slots, weights [T, K], capacity, undefined and losses by name."""
        slots = np.asarray(result["slots"])
        ids = np.asarray(result["ids"])
        assert ids.shape == slots.shape == (case["T"], case["K"]), (self.name, case)
        weights = np.where(slots >= 0, result["weights"], 0)
        assert np.all(slots[ids < 0] == -1) and np.all(np.isfinite(weights)), (self.name, case)
        self.cases.append(case)
        arrays = {
            "expert_ids": ids.astype(np.int8).ravel(),
            "slots": slots.astype(np.int16).ravel(),
            "weights": weights.astype(np.float32).ravel(),
            "capacity": np.array([result["capacity"]], np.int32),
            "undefined": np.array([result.get("undefined", 0)], np.uint8),
        }
        for name, value in result.items():
            if name.endswith("_loss"):
                arrays[name] = np.array([value], np.float32)
            elif name == "logits":
                arrays[name] = np.asarray(value, np.float32).ravel()
        for name, array in arrays.items():
            self.parts.setdefault(name, []).append(array)

    def write(self, folder=HERE):
        tensors = {name: np.concatenate(parts) for name, parts in self.parts.items()}
        size = write(Path(folder) / f"{self.name}.safetensors", tensors, self.cases)
        ids, slots = tensors["expert_ids"], tensors["slots"]
        print(
            f"{self.name}: {len(self.cases)} cases, {int(np.sum(ids >= 0))} choices, "
            f"{int(np.sum((ids >= 0) & (slots < 0)))} dropped, "
            f"{int(np.count_nonzero(tensors['undefined']))} with open order, {size} bytes"
        )


def sizes(index, T_max=24, E_min=2):
    """Returns T, E and a temperament that vary with the index of a case."""
    generator = SeededGenerator(0x5EED0000 + index)
    T = 4 + generator.next() % (T_max - 3)
    experts = [e for e in (2, 3, 4, 5, 6, 8, 16) if e >= E_min]
    E = experts[generator.next() % len(experts)]
    temperament = ("plain", "sharp", "skewed", "ties", "underflow", "plain", "sharp", "skewed")[index % 8]
    return int(T), int(E), temperament


def make(name, count, case_of, result_of, tries=40):
    """Writes a golden file. case_of(index, seed) gives a case; result_of(case) gives its result, or raises TooClose,
    and then the next seed is tried."""
    golden = Golden(name)
    for index in range(count):
        for attempt in range(tries):
            case = case_of(index, 1000 * index + attempt)
            try:
                result = result_of(case)
            except TooClose:
                continue
            golden.add(case, result)
            break
        else:
            raise RuntimeError(f"{name}: case {index} has no seed without a close decision")
    golden.write()
