"""Golden files of Megatron-Core's router: megatron, megatron-pre-softmax, megatron-sigmoid, megatron-sqrtsoftplus.

Made by the original, megatron.core.transformer.moe.moe_utils on the CPU, beside a re-statement in float64, which must
agree. Where torch's top-k over equal scores decides (in the drop policy `position` wherever an expert is full), the
stored numbers are those of our rule and counts are compared. A version without sqrtsoftplus (0.16.1) leaves that file
to the re-statement alone; with Python 3.11 the files of 0.19.2 work from a folder on PYTHONPATH.

The selection bias of a case is logits(bias_seed, 1, E). A mask changes the losses only.

  pip install megatron-core==0.19.2 triton torch==2.13.0 numpy==2.4.6     (Python 3.12)
  python make_megatron.py
"""

import inspect
import math
import sys
from importlib.metadata import version

import numpy as np
import torch
from megatron.core.transformer.moe import moe_utils

import cases as c

FUNCTIONS = {"megatron": "softmax", "megatron-pre-softmax": "softmax", "megatron-sigmoid": "sigmoid",
             "megatron-sqrtsoftplus": "sqrtsoftplus"}
HAS_SQRTSOFTPLUS = "sqrtsoftplus" in inspect.getsource(moe_utils.topk_routing_with_score_function)


def scores_of(name, z):
    z = z.astype(np.float64)
    if name == "megatron":
        return z
    if name == "megatron-pre-softmax":
        return c.softmax(z)
    if name == "megatron-sigmoid":
        return 1 / (1 + np.exp(-z))
    return np.sqrt(np.logaddexp(0, z))


def choose_in_groups(scores, case):
    """Returns the experts of each token, and whether a tie decides."""
    K = case["K"]
    if "groups" not in case:
        return c.choose(scores, K)
    T, E = scores.shape
    by_group = scores.reshape(T, case["groups"], -1)
    best = -np.sort(-by_group, axis=2)[:, :, : K // case["groups_selected"]].sum(axis=2)
    selected, groups_open = c.choose(best, case["groups_selected"])
    is_in = c.one_hot(selected, case["groups"]).sum(axis=1) > 0
    ids, choice_open = c.choose(np.where(np.repeat(is_in, E // case["groups"], axis=1), scores, -np.inf), K)
    return ids, groups_open or choice_open


def bias_of(case):
    return c.logits(case["bias_seed"], 1, case["E"])[0] if "bias_seed" in case else None


def route(name, case, z):
    T, E = z.shape
    K = case["K"]
    scores = scores_of(name, z)
    bias = bias_of(case)
    ids, choice_open = choose_in_groups(scores if bias is None else scores + bias.astype(np.float64), case)
    weights = c.take(scores, ids)
    if name == "megatron":
        weights = c.softmax(weights)
    elif name != "megatron-pre-softmax" and K > 1:
        weights = weights / (weights.sum(axis=1, keepdims=True) + 1e-20)
    weights = weights * case.get("scale", 1)
    C, kept_open = -1, False
    if "capacity_factor" in case:
        C = math.ceil((T * K / E) * case["capacity_factor"])
    limit = -1 if C >= T else C
    if case.get("drop_policy") == "position":
        slots, kept_open = c.claim_by_score(ids, np.ones(ids.shape), E, limit)
    else:
        slots, kept_open = c.claim_by_score(ids, weights, E, limit)
        kept_open |= limit >= 0 and bool(np.any(weights == 0))
    p = scores if name != "megatron" else c.softmax(z)
    if name not in ("megatron", "megatron-pre-softmax"):
        p = p / (p.sum(axis=1, keepdims=True) + 1e-20)
    own, own_open = c.choose(p, K)
    real = real_of(case)
    n = real.sum()
    counts = (c.one_hot(own, E).sum(axis=1) * real[:, None]).sum(axis=0)
    loss = E / (K * n * n) * ((p * real[:, None]).sum(axis=0) * counts).sum()
    z_loss = (c.log_sum_exp(z) ** 2 * real).sum() / n
    return {"ids": ids, "slots": slots, "weights": weights, "capacity": C, "auxiliary_loss": loss, "z_loss": z_loss,
            "undefined": c.KEPT_OPEN * kept_open + c.CHOICE_OPEN * (choice_open or own_open)}


def real_of(case):
    return c.mask(case["mask_seed"], case["T"]) if "mask_seed" in case else np.ones(case["T"], bool)


# The original -------------------------------------------------------------------------------------------------------


def adopt(name, case, z, result):
    """Compares the re-statement with the original and takes the original's numbers where it defines them."""
    K, E = case["K"], case["E"]
    bias, real, logits = bias_of(case), real_of(case), torch.tensor(z)
    probabilities, routing_map = moe_utils.topk_routing_with_score_function(
        logits, K, use_pre_softmax=name == "megatron-pre-softmax", num_groups=case.get("groups"),
        group_topk=case.get("groups_selected"), scaling_factor=case.get("scale"), score_function=FUNCTIONS[name],
        expert_bias=None if bias is None else torch.tensor(bias))
    chosen = routing_map.sum(dim=0).numpy()
    if "capacity_factor" in case:
        probabilities, routing_map = moe_utils.apply_router_token_dropping(
            probabilities, routing_map, K, case["capacity_factor"], drop_policy=case["drop_policy"])
    padding = None if "mask_seed" not in case else torch.tensor(~real)
    own, p = moe_utils.compute_routing_scores_for_aux_loss(logits, K, FUNCTIONS[name], padding_mask=padding)
    loss = moe_utils.switch_load_balancing_loss_func(
        probs=p, tokens_per_expert=own.sum(dim=0), total_num_tokens=int(real.sum()), topk=K, num_experts=E,
        moe_aux_loss_coeff=1.0)
    z_loss = moe_utils.z_loss_func(logits, 1.0, padding_mask=padding)
    assert np.isclose(float(z_loss), result["z_loss"], rtol=5e-6), (name, case)
    result["z_loss"] = float(z_loss)
    ids, slots = result["ids"], result["slots"]
    weights = np.where(slots >= 0, result["weights"], 0)
    probabilities, kept = probabilities.numpy(), routing_map.numpy()
    if result["undefined"] & c.CHOICE_OPEN:
        assert chosen.sum() == case["T"] * K
        if result["capacity"] < 0:
            largest = np.sort(probabilities, axis=1)[:, -K:]
            assert np.allclose(largest, np.sort(weights, axis=1), atol=1e-6), (name, case)
        return result
    assert np.isclose(float(loss), result["auxiliary_loss"], rtol=2e-6), (name, case)
    result["auxiliary_loss"] = float(loss)
    assert np.array_equal(chosen, c.one_hot(ids, E).sum(axis=(0, 1))), (name, case)
    ours = c.one_hot(np.where(slots >= 0, ids, -1), E).sum(axis=1) > 0
    if result["undefined"] & c.KEPT_OPEN:
        if not np.any(result["weights"] == 0):  # a weight of 0 ties with the zeros of the tokens not chosen
            assert np.array_equal(kept.sum(axis=0), ours.sum(axis=0)), (name, case)
        return result
    assert np.array_equal(ours, kept), (name, case)
    built = np.zeros_like(probabilities)
    for t, k in np.argwhere(slots >= 0):
        built[t, ids[t, k]] = weights[t, k]
        weights[t, k] = probabilities[t, ids[t, k]]
    assert np.allclose(built, probabilities, atol=1e-6), (name, case)
    return result | {"weights": weights}


# Cases --------------------------------------------------------------------------------------------------------------


def case_of(name, index, seed):
    T, E, temperament = c.sizes(index)
    K = min((2, 3, 2, 4, 1)[index // 2 % 5], E)
    if name == "megatron" and K == 1:
        K = 2
    case = {"seed": seed, "T": T, "E": E, "K": K, "temperament": temperament}
    if index % 6 == 5:
        case |= {"E": (8, 16)[index // 6 % 2], "K": (2, 4)[index // 12 % 2], "groups": 4, "groups_selected": 2}
    if index % 3:
        case["capacity_factor"] = (1.0, 0.5, 1.25, 2.0)[index // 3 % 4]
        case["drop_policy"] = ("probs", "probs", "position")[index // 2 % 3]
    if index % 4 == 1:
        case["mask_seed"] = seed + 1
    if index % 5 == 3:
        case["scale"] = 2.5
    if FUNCTIONS[name] != "softmax" and index % 2:
        case["bias_seed"] = seed + 3
    return case


def result_of(name, case):
    z = c.logits(case["seed"], case["T"], case["E"], case["temperament"])
    if not real_of(case).any():
        raise c.TooClose
    result = route(name, case, z)
    if name == "megatron-sqrtsoftplus" and not HAS_SQRTSOFTPLUS:
        return result
    return adopt(name, case, z, result)


if __name__ == "__main__":
    print(f"megatron-core {version('megatron-core')}, torch {torch.__version__}, numpy {np.__version__}")
    if not HAS_SQRTSOFTPLUS:
        print("megatron-sqrtsoftplus without the original")
    for name in sys.argv[1:] or FUNCTIONS:
        c.make(name, 60, lambda index, seed: case_of(name, index, seed), lambda case: result_of(name, case))
