"""Golden files of flaxformer's router: switch-flaxformer, switch-flaxformer-bpr, st-moe, st-moe-bpr.

A re-statement in float64 of `TokensChooseMaskedRouter` (flaxformer, architectures/moe/routing.py, commit 5400cce),
which is in no package.
"""

import sys

import numpy as np

import cases as c


def capacity(case, T, E):
    return max(int(round(case["capacity_factor"] * T / E)), case.get("min_capacity", 4))


def route(case, is_prioritised, z, real, first):
    T, E = z.shape
    p = c.softmax(z)
    ids, _ = c.choose(p, case["K"])
    ids = np.where(real[:, None], ids, -1)
    p = p * real[:, None]
    share = c.one_hot(ids, E).max(axis=1).mean(axis=0)
    loss = E * E * (share * p.mean(axis=0)).mean()
    order = c.by_priority(p.max(axis=1))[0] if is_prioritised else None
    C = capacity(case, T, E)
    slots = c.claim(ids, E, C, c.choice_then_token(T, case["K"], order))
    z_loss = (c.log_sum_exp(z * real[:, None]) ** 2).mean()
    return {"ids": ids, "slots": slots, "weights": c.take(p, ids), "capacity": C, "auxiliary_loss": loss,
            "z_loss": z_loss}


def case_of(name, index, seed):
    T, E, temperament = c.sizes(index)
    case = {"seed": seed, "T": T, "E": E, "K": 2 if name.startswith("st-moe") else 1, "temperament": temperament}
    case["capacity_factor"] = (1.25, 2.0, 1.0, 0.5, 2.5)[index % 5]
    if index % 4:
        case["min_capacity"] = index % 4
    if index % 3 == 1:
        case["mask_seed"] = seed + 1
    if index % 6 == 2 and T % 2 == 0:
        case["group_size"] = T // 2
    return case


def result_of(name, case):
    z = c.logits(case["seed"], case["T"], case["E"], case["temperament"])
    real = c.mask(case["mask_seed"], case["T"]) if "mask_seed" in case else np.ones(case["T"], bool)
    return c.in_groups(case, z, real, lambda *part: route(case, name.endswith("bpr"), *part))


NAMES = ("switch-flaxformer", "switch-flaxformer-bpr", "st-moe", "st-moe-bpr")

if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        c.make(name, 60, lambda index, seed: case_of(name, index, seed), lambda case: result_of(name, case))
