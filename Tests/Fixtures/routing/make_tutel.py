"""Golden files of Tutel's gates: tutel, tutel-bpr, cosine.

A re-statement in float64 of `extract_critical` and its losses (tutel, impls/fast_dispatch.py and impls/losses.py as of
commit 82af7aa) and of gates/cosine_top.py; no package that runs here has them. A capacity factor of 0 drops nothing, a
negative one limits the capacity that drops nothing; neither is used with batch-prioritised routing, where the
original's capacity is too small.

`cosine` has the inputs y = logits(seed, T, P) and the columns of logits(seed + 1, P, E); its logits are in the file.
"""

import sys

import numpy as np

import cases as c

EPSILON = 1.1920929e-07


def capacity(case, ids, E):
    T, K = ids.shape
    share = (T + E - 1) // E
    factor = case["capacity_factor"]
    if factor > 0:
        return K * int(factor * share)
    most = int(c.one_hot(ids, E).sum(axis=(0, 1)).max())
    return min(most, K * int(-factor * share)) if factor < 0 else most


def route(case, is_prioritised, z):
    T, E = z.shape
    K = case["K"]
    if "gate_noise" in case:
        noise = np.float32(case["gate_noise"]) * c.gaussians(case["noise_seed"], T, E) / np.float32(E)
        z = (z + noise).astype(np.float32)
    scores = c.softmax(z)
    ids, choice_open = c.choose(scores, K)
    loss = E * (scores.mean(axis=0) * c.one_hot(ids[:, 0], E).mean(axis=0)).sum()
    order, has_ties = c.by_priority(scores.max(axis=1)) if is_prioritised else (None, False)
    C = capacity(case, ids, E)
    slots = c.claim(ids, E, C, c.choice_then_token(T, K, order))
    weights = c.take(scores, ids)
    if K > 1 and case.get("normalize", 1):
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), EPSILON)
    return {"ids": ids, "slots": slots, "weights": weights, "capacity": C if case["capacity_factor"] else -1,
            "auxiliary_loss": loss, "undefined": c.KEPT_OPEN * has_ties + c.CHOICE_OPEN * choice_open}


def cosine_logits(case):
    y = c.logits(case["seed"], case["T"], case["projection"]).astype(np.float64)
    columns = c.logits(case["seed"] + 1, case["projection"], case["E"]).astype(np.float64)
    y = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)
    columns = columns / np.maximum(np.linalg.norm(columns, axis=0, keepdims=True), 1e-12)
    scale = np.exp(min(case["temperature"], float(np.log(np.float32(1 / 0.01)))))
    return (y @ columns * scale).astype(np.float32)


def case_of(name, index, seed):
    T, E, temperament = c.sizes(index, T_max=16 if name == "cosine" else 24)
    case = {"seed": seed, "T": T, "E": E, "K": min((2, 1, 2, 3, 4)[index // 2 % 5], E), "temperament": temperament}
    case["capacity_factor"] = (1.0, 0.5, 2.0, 1.25, 1.0)[index % 5]
    if name == "tutel" and index % 7 == 3:
        case["capacity_factor"] = (0, -0.5, -1.0)[index // 7 % 3]
    if name == "cosine":
        del case["temperament"]
        case["projection"] = (16, 32)[index % 2]
        case["temperature"] = (float(np.log(2.0)), 1.5, 5.0)[index % 3]
    elif index % 3 == 1 and temperament != "ties":
        case["gate_noise"] = 1.0
        case["noise_seed"] = seed + 2
    if case["K"] > 1 and index % 4 == 2:
        case["normalize"] = 0
    return case


def result_of(name, case):
    if name == "cosine":
        z = cosine_logits(case)
        return route(case, False, z) | {"logits": z}
    z = c.logits(case["seed"], case["T"], case["E"], case["temperament"])
    return route(case, name.endswith("bpr"), z)


NAMES = ("tutel", "tutel-bpr", "cosine")

if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        c.make(name, 60, lambda index, seed: case_of(name, index, seed), lambda case: result_of(name, case))
