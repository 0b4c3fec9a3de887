"""Golden files of DeepSpeed's gates: deepspeed-top1, deepspeed-top2, deepspeed-topk.

Made by the original, `deepspeed.moe.sharded_moe` on the CPU, with its random functions replaced by the counter
generator; beside a re-statement in float64, which must agree. Where torch's top-k over equal scores decides, the
stored numbers are those of our rule, and what does not depend on the order is compared.

  pip install deepspeed==0.19.8 torch==2.13.0 numpy==2.4.6
  python make_deepspeed.py
"""

import os
import sys

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
import numpy as np
import torch
from deepspeed.moe import sharded_moe
from deepspeed.utils import groups

import cases as c

EPSILON = 1.1920929e-07


def capacity(case, T, E, k):
    """ceil in float32 of a product in float32 of a share in double."""
    rows = np.ceil(np.float32(T / E) * np.float32(case["capacity_factor"] * k))
    return max(int(rows), case["min_capacity"])


def top1(case, z):
    T, E = z.shape
    gates = c.softmax(z)
    is_noisy = case.get("noisy_policy") == "RSample"
    if is_noisy:
        ids = c.noisy_argmax(z + c.gumbels(case["noise_seed"], T, E, 0))[:, None]
    else:
        ids, _ = c.choose(gates, 1)
    real = c.mask(case["mask_seed"], T) if "mask_seed" in case else np.ones(T, bool)
    ids = np.where(real[:, None], ids, -1)
    loss = E * (gates.mean(axis=0) * c.one_hot(ids[:, 0], E).mean(axis=0)).sum()
    scores = np.ones((T, 1))
    if not case.get("no_rts"):
        scores = c.take(c.uniforms(case["noise_seed"], T, E, 1 if is_noisy else 0), ids)
    C = -1 if case.get("no_drop") else capacity(case, T, E, 1)
    slots, is_open = c.claim_by_score(ids, scores, E, C)
    if is_open and not case.get("no_rts"):
        raise c.TooClose
    return {"ids": ids, "slots": slots, "weights": c.take(gates, ids), "capacity": C, "auxiliary_loss": loss,
            "undefined": c.KEPT_OPEN * is_open}


def top2(case, z):
    T, E = z.shape
    gates = c.softmax(z)
    first, _ = c.choose(gates, 1)
    others = z.copy()
    if not case.get("no_second_sampling"):
        others = others + c.gumbels(case["noise_seed"], T, E, 1)
    np.put_along_axis(others, first, -np.inf, axis=1)
    if case.get("no_second_sampling"):
        second, _ = c.choose(others, 1)
    else:
        second = c.noisy_argmax(others)[:, None]
    ids = np.concatenate([first, second], axis=1)
    loss = E * E * (gates.mean(axis=0) * c.one_hot(first[:, 0], E).mean(axis=0)).mean()
    C = -1 if case.get("no_drop") else capacity(case, T, E, 2)
    slots = c.claim(ids, E, C, c.choice_then_token(T, 2))
    kept = np.where(slots >= 0, c.take(gates, ids), 0)
    weights = kept / np.maximum(kept.sum(axis=1, keepdims=True), EPSILON)
    return {"ids": ids, "slots": slots, "weights": weights, "capacity": C, "auxiliary_loss": loss}


def topk(case, z):
    T, E = z.shape
    K = case["K"]
    gates = c.softmax(z)
    ids, choice_open = c.choose(gates, K)
    chosen = c.take(gates, ids)
    loss = E * E / K * (gates.mean(axis=0) * c.one_hot(ids, E).sum(axis=1).mean(axis=0)).mean()
    C = -1 if case.get("no_drop") else capacity(case, T, E, K)
    kept_open = False
    if C < 0 or case["drop_policy"] == "position":
        slots = c.claim(ids, E, C, c.token_then_choice(T, K))
    else:
        slots, kept_open = c.claim_by_score(ids, chosen, E, C)
        # A chosen gate that is exactly 0 ties with the zeros of the tokens that did not choose the expert.
        kept_open |= C < T and bool(np.any(chosen == 0))
    kept = np.where(slots >= 0, chosen, 0)
    weights = kept / np.maximum(kept.sum(axis=1, keepdims=True), EPSILON)
    return {"ids": ids, "slots": slots, "weights": weights, "capacity": C, "auxiliary_loss": loss,
            "undefined": c.KEPT_OPEN * kept_open + c.CHOICE_OPEN * choice_open}


RULES = {"deepspeed-top1": top1, "deepspeed-top2": top2, "deepspeed-topk": topk}


# The original -------------------------------------------------------------------------------------------------------


def run_original(name, case, z):
    T, E = z.shape
    groups._get_expert_model_parallel_world_size = lambda: 1  # one process
    device = torch.device("cpu")
    seed = case.get("noise_seed", 0)
    is_noisy = case.get("noisy_policy") == "RSample"
    gumbel_choice = 1 if name == "deepspeed-top2" else 0
    sharded_moe.gumbel_map[device] = lambda shape: torch.tensor(c.gumbels(seed, T, E, gumbel_choice))
    sharded_moe.exp_selection_uniform_map[device] = lambda shape: torch.tensor(
        c.uniforms(seed, T, E, 1 if is_noisy else 0))
    logits = torch.tensor(z)
    factor, minimum = case.get("capacity_factor", 1.0), case.get("min_capacity", 4)
    keep_all = case.get("no_drop", False)
    if name == "deepspeed-top1":
        used = torch.tensor(c.mask(case["mask_seed"], T)).long() if "mask_seed" in case else None
        outputs = sharded_moe.top1gating(
            logits, factor, minimum, used_token=used, noisy_gate_policy=case.get("noisy_policy"),
            drop_tokens=not keep_all, use_rts=not case.get("no_rts", False))
    elif name == "deepspeed-top2":
        outputs = sharded_moe.top2gating(
            logits, factor, minimum, drop_tokens=not keep_all,
            top2_2nd_expert_sampling=not case.get("no_second_sampling", False))
    else:
        outputs = sharded_moe.topkgating(
            logits, case["K"], factor, minimum, drop_tokens=not keep_all, drop_policy=case.get("drop_policy", "probs"))
    loss, combine, dispatch, counts = outputs
    return float(loss), combine.numpy(), dispatch.numpy(), counts.numpy()


def adopt(name, case, z, result):
    """Compares the re-statement with the original and takes the original's numbers where it defines them."""
    loss, combine, dispatch, counts = run_original(name, case, z)
    T, E = z.shape
    ids, slots, weights = result["ids"], result["slots"], np.where(result["slots"] >= 0, result["weights"], 0)
    flags = result.get("undefined", 0)
    C = combine.shape[2]
    expected = max(int(counts.max()), 0) if result["capacity"] < 0 else result["capacity"]
    assert C == expected or flags & c.CHOICE_OPEN, (name, case, C, expected)
    if flags & c.CHOICE_OPEN:
        assert counts.sum() == T * case["K"], (name, case)
        if case.get("no_drop"):
            chosen = np.sort(combine.sum(axis=2), axis=1)[:, -case["K"] :]
            assert np.allclose(chosen, np.sort(weights, axis=1), atol=1e-6), (name, case)
        return result
    assert np.array_equal(counts, c.one_hot(ids, E).sum(axis=(0, 1))), (name, case)
    assert np.isclose(loss, result["auxiliary_loss"], rtol=2e-6), (name, case)
    result["auxiliary_loss"] = loss
    if flags & c.KEPT_OPEN:
        ours = c.one_hot(np.where((slots >= 0) & (weights > 0), ids, -1), E).sum(axis=(0, 1))
        assert np.array_equal(dispatch.sum(axis=(0, 2)), ours), (name, case)
        return result
    built = np.zeros((T, E, C))
    for t, k in np.argwhere(slots >= 0):
        built[t, ids[t, k], slots[t, k]] = weights[t, k]
        weights[t, k] = combine[t, ids[t, k], slots[t, k]]
    assert np.allclose(built, combine, atol=1e-6), (name, case)
    assert np.array_equal(dispatch, combine != 0)
    return result | {"weights": weights}


# Cases --------------------------------------------------------------------------------------------------------------


def case_of(name, index, seed):
    T, E, temperament = c.sizes(index, T_max=10 if name == "deepspeed-topk" else 15)
    K = {"deepspeed-top1": 1, "deepspeed-top2": 2}.get(name) or (1, 2, 3, 4, E)[index // 8 % 5]
    case = {"seed": seed, "T": T, "E": E, "K": min(K, E), "temperament": temperament}
    if index % 5 == 4:
        case["no_drop"] = True
    else:
        case["capacity_factor"] = (1.0, 0.5, 1.25, 2.0, 40.0, 1.1)[index // 2 % 6]
        case["min_capacity"] = (0, 1, 4, 2)[index // 3 % 4]
    if name == "deepspeed-top1":
        if index % 3 == 1:
            case["no_rts"] = True
        if index % 7 == 2:
            case["noisy_policy"] = "RSample"
        if index % 4 == 1:
            case["mask_seed"] = seed + 1
        if "noisy_policy" in case or "no_rts" not in case:
            case["noise_seed"] = seed + 2
    elif name == "deepspeed-top2":
        if index % 2:
            case["no_second_sampling"] = True
        else:
            case["noise_seed"] = seed + 2
    elif "no_drop" not in case:
        case["drop_policy"] = ("probs", "probs", "position")[index % 3]
    return case


def result_of(name, case):
    z = c.logits(case["seed"], case["T"], case["E"], case["temperament"])
    return adopt(name, case, z, RULES[name](case, z))


if __name__ == "__main__":
    print(f"deepspeed {deepspeed.__version__}, torch {torch.__version__}, numpy {np.__version__}")
    for name in sys.argv[1:] or RULES:
        c.make(name, 220, lambda index, seed: case_of(name, index, seed), lambda case: result_of(name, case))
