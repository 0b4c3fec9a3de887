"""Golden files of V-MoE's token-choice router: vmoe, vmoe-bpr.

A re-statement in float64 of `NoisyTopExpertsPerItemRouter` (vmoe, nn/routing.py, commit 11e37d5; moe.py, commit
1030c71), which is in no package. The auxiliary loss is the sum of the importance and the load loss; without noise there
is no load loss, and the file has 0 for it.
"""

import math
import sys

import numpy as np

import cases as c

phi = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))


def capacity(case, T, E):
    rows = math.ceil(T * case["K"] * case["capacity_factor"] / E)
    return -(-rows // 4) * 4


def spread(x):
    return x.var() / x.mean() ** 2


def route(case, is_prioritised, z, real, first):
    T, E = z.shape
    K = case["K"]
    clean = c.softmax(z)
    importance, load = spread(clean.sum(axis=0)), 0.0
    noisy = z
    if "noise_std" in case:
        deviation = case["noise_std"] / E
        noisy = (z + np.float32(deviation) * c.gaussians(case["noise_seed"], T, E, first)).astype(np.float32)
        threshold = np.sort(noisy.astype(np.float64), axis=1)[:, E - K, None]
        load = spread((1 - phi((threshold - z) / deviation)).mean(axis=0))
    p = c.softmax(noisy)
    ids, _ = c.choose(p, K)
    gshard = E * E * (p.mean(axis=0) * c.one_hot(ids[:, 0], E).mean(axis=0)).mean()
    order = c.by_priority(p.max(axis=1))[0] if is_prioritised else None
    C = capacity(case, T, E)
    slots = c.claim(ids, E, C, c.choice_then_token(T, K, order))
    return {"ids": ids, "slots": slots, "weights": c.take(p, ids), "capacity": C,
            "auxiliary_loss": importance + load, "importance_loss": importance, "load_loss": load,
            "gshard_loss": gshard}


def case_of(name, index, seed):
    T, E, temperament = c.sizes(index)
    case = {"seed": seed, "T": T, "E": E, "K": min((2, 1, 2, 3, 4)[index // 2 % 5], E), "temperament": temperament}
    case["capacity_factor"] = (1.05, 0.5, 1.0, 2.0, 0.25)[index % 5]
    if index % 3 == 1 and temperament != "ties":
        case["noise_std"] = (1.0, 2.0)[index % 2]
        case["noise_seed"] = seed + 2
    if index % 6 == 2 and T % 2 == 0:
        case["group_size"] = T // 2
    return case


def result_of(name, case):
    z = c.logits(case["seed"], case["T"], case["E"], case["temperament"])
    return c.in_groups(case, z, None, lambda *part: route(case, name.endswith("bpr"), *part))


NAMES = ("vmoe", "vmoe-bpr")

if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        c.make(name, 60, lambda index, seed: case_of(name, index, seed), lambda case: result_of(name, case))
