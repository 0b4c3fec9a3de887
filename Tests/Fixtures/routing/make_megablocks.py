"""Golden file of MegaBlocks' router and token dropping: megablocks.

A re-statement in float64 of layers/router.py and layers/moe.py (MegaBlocks, commit ec2fd2b), which needs a GPU.
"""

import numpy as np

import cases as c


def route(case, z):
    T, E = z.shape
    K = case["K"]
    p = c.softmax(z)
    ids, choice_open = c.choose(p, K)
    weights = c.take(p, ids)
    if "p_norm" in case:
        weights = weights / np.linalg.norm(weights, ord=case["p_norm"], axis=1, keepdims=True)
    C = -1
    if not case.get("no_drop"):
        C = int(case["capacity_factor"] * (K * T / E)) or -1
    slots = c.claim(ids, E, C, c.token_then_choice(T, K))
    counts = c.one_hot(ids, E).sum(axis=(0, 1))
    loss = E / (T * K) * (counts * p.mean(axis=0)).sum()
    return {"ids": ids, "slots": slots, "weights": weights, "capacity": C, "auxiliary_loss": loss,
            "z_loss": (c.log_sum_exp(z) ** 2).mean(), "undefined": c.CHOICE_OPEN * (choice_open and K > 1)}


def case_of(index, seed):
    T, E, temperament = c.sizes(index)
    case = {"seed": seed, "T": T, "E": E, "K": min((1, 2, 2, 4, 3)[index // 2 % 5], E), "temperament": temperament}
    if index % 5 == 4:
        case["no_drop"] = True
    else:
        case["capacity_factor"] = (1.0, 0.5, 1.5, 0.1, 2.0)[index // 3 % 5]
    if index % 3 == 1:
        case["p_norm"] = (1, 2)[index % 2]
    return case


def result_of(case):
    return route(case, c.logits(case["seed"], case["T"], case["E"], case["temperament"]))


if __name__ == "__main__":
    c.make("megablocks", 60, case_of, result_of)
