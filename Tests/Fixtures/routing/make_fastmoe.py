"""Golden files of FastMoE's gates: fastmoe-naive, fastmoe-switch, fastmoe-gshard, noisy-topk.

A re-statement in float64 of fmoe/gates (FastMoE; naive_gate a6ca7f6, switch_gate 22f6e46, gshard_gate 194cda9,
noisy_gate 8622adf), which needs a GPU. On the GPU atomic operations decide which tokens a full expert keeps; here it
keeps the first ones. The order of the choices is open too (unsorted top-k); here the best one comes first.

`noisy-topk` (Shazeer et al. 2017) has the raw noise logits(seed + 1000, T, E) beside the logits. Without `noise_seed`
there is no noise, and the load is the number of tokens of each expert (the limit; the original divides by zero on the
way, and torch's argument check refuses that).
"""

import math
import sys

import numpy as np

import cases as c

phi = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))


def naive(case, z):
    T, E = z.shape
    ids, choice_open = c.choose(z.astype(np.float64), case["K"])
    weights = c.softmax(c.take(z, ids))
    slots = c.claim(ids, E, -1, c.token_then_choice(T, case["K"]))
    return {"ids": ids, "slots": slots, "weights": weights, "capacity": -1, "auxiliary_loss": 0.0,
            "undefined": c.CHOICE_OPEN * choice_open}


def switch(case, z):
    T, E = z.shape
    if "noise_seed" in case:
        noise = c.uniforms(case["noise_seed"], T, E, 0) * np.float32(2) * np.float32(0.1) + np.float32(1)
        z = z + (noise - np.float32(0.1))
    p = c.softmax(z)
    ids, choice_open = c.choose(p, 1)
    C = math.ceil(case["capacity_factor"] * T / E)
    slots = c.claim(ids, E, C, c.token_then_choice(T, 1))
    kept = np.where(slots >= 0, ids, -1)
    survivors = np.count_nonzero(kept >= 0)
    share = c.one_hot(kept[:, 0], E).sum(axis=0) / survivors
    loss = E * (share * p.sum(axis=0) / survivors).sum()
    return {"ids": ids, "slots": slots, "weights": c.take(p, ids), "capacity": C, "auxiliary_loss": loss,
            "undefined": c.CHOICE_OPEN * choice_open}


def gshard(case, z):
    T, E = z.shape
    result = naive(case, z)
    ids, weights = result["ids"], result["weights"]
    loss = E * E * (c.one_hot(ids[:, 0], E).mean(axis=0) * c.softmax(z).mean(axis=0)).mean()
    C = math.ceil(case["capacity_factor"] * T) * 2 // E
    # The second choices are taken out at random after the capacity is spent; the slots are given out after that.
    is_kept = c.claim(ids, E, C, c.token_then_choice(T, 2)) >= 0
    if "noise_seed" in case:
        u = c.second_uniforms(case["noise_seed"], T, E)
        is_taken = ~c.below(2 * weights[:, 1], u)
        ids = np.stack([ids[:, 0], np.where(is_taken, ids[:, 1], -1)], axis=1)
    packed = c.claim(np.where(is_kept, ids, -1), E, -1, c.token_then_choice(T, 2))
    return result | {"ids": ids, "slots": packed, "capacity": C, "auxiliary_loss": loss}


def spread(x):
    return x.var(ddof=1) / (x.mean() ** 2 + 1e-10) if len(x) > 1 else 0.0


def noisy(case, z):
    T, E = z.shape
    K = case["K"]
    noisy, deviation = z, None
    if "noise_seed" in case:
        raw = c.logits(case["seed"] + 1000, T, E)
        deviation = np.logaddexp(0, raw.astype(np.float64)) + 0.01
        noise = c.gaussians(case["noise_seed"], T, E) * deviation.astype(np.float32)
        noisy = (z + noise).astype(np.float32)
    result = naive(case, noisy)
    ids, weights = result["ids"], result["weights"]
    chosen = c.one_hot(ids, E)
    importance = (chosen * weights[:, :, None]).sum(axis=(0, 1))
    load = (chosen * (weights[:, :, None] > 0 if K == E else 1)).sum(axis=(0, 1))
    if deviation is not None and K < E:
        ordered = -np.sort(-noisy.astype(np.float64), axis=1)
        is_in = noisy > ordered[:, K, None]
        threshold = np.where(is_in, ordered[:, K, None], ordered[:, K - 1, None])
        load = phi((z - threshold) / deviation).sum(axis=0)
    losses = spread(importance), spread(load)
    return result | {"auxiliary_loss": sum(losses), "importance_loss": losses[0], "load_loss": losses[1]}


RULES = {"fastmoe-naive": naive, "fastmoe-switch": switch, "fastmoe-gshard": gshard, "noisy-topk": noisy}


def case_of(name, index, seed):
    T, E, temperament = c.sizes(index)
    K = {"fastmoe-switch": 1, "fastmoe-gshard": 2}.get(name) or min((2, 1, 2, 3, 4)[index // 2 % 5], E)
    case = {"seed": seed, "T": T, "E": E, "K": K, "temperament": temperament}
    if name in ("fastmoe-switch", "fastmoe-gshard"):
        case["capacity_factor"] = (1.2, 2.4, 0.5, 1.0, 0.7)[index % 5]
    is_random = {"fastmoe-switch": temperament != "ties", "noisy-topk": temperament != "ties"}.get(name, True)
    if name != "fastmoe-naive" and index % 3 and is_random:
        case["noise_seed"] = seed + 2
    return case


def result_of(name, case):
    z = c.logits(case["seed"], case["T"], case["E"], case["temperament"])
    return RULES[name](case, z)


if __name__ == "__main__":
    for name in sys.argv[1:] or RULES:
        c.make(name, 60, lambda index, seed: case_of(name, index, seed), lambda case: result_of(name, case))
