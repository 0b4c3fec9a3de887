"""Golden files of Hugging Face's routers: nllb-moe, nllb-moe-bpr, switch-transformers.

Made by the originals, NllbMoeTop2Router and SwitchTransformersTop1Router, with their random functions replaced by the
counter generator; beside a re-statement in float64, which must agree.

nllb-moe: `capacity` N is training with expert_capacity N; `capacity_factor` is evaluation with that fraction of the
tokens. Flag 2 of `undefined` concerns the loss alone there (its own top-2 has ties); the experts are defined.
switch-transformers: `capacity` for each sequence of `group_size` tokens.

  pip install transformers==5.23.0 torch==2.13.0 numpy==2.4.6
  python make_transformers.py
"""

import math
import sys
from unittest import mock

import numpy as np
import torch
import transformers
from transformers.models.nllb_moe import modeling_nllb_moe as nllb
from transformers.models.switch_transformers import modeling_switch_transformers as switch

import cases as c

EPSILON = 1.1920929e-07


# NLLB ---------------------------------------------------------------------------------------------------------------


def real_of(case):
    return c.mask(case["mask_seed"], case["T"]) if "mask_seed" in case else np.ones(case["T"], bool)


def nllb_route(case, is_prioritised, z):
    T, E = z.shape
    p = c.softmax(z)
    real = real_of(case)
    first, _ = c.choose(p, 1)
    others = z.copy()
    if case["second_policy"] == "sampling":
        others = others + c.gumbels(case["noise_seed"], T, E, 1)
    loss_logits = others.copy()  # the original adds the noise to the logits that the loss sees
    np.put_along_axis(others, first, -np.inf, axis=1)
    is_sampled = case["second_policy"] == "sampling"
    second = (c.noisy_argmax(others) if is_sampled else others.argmax(axis=1))[:, None]
    ids = np.concatenate([first, second], axis=1)
    raw = c.take(p, ids)
    weights = raw / np.maximum(raw.sum(axis=1, keepdims=True), EPSILON)
    if case["second_policy"] == "random":
        u = c.second_uniforms(case["noise_seed"], T, E)
        ids[:, 1] = np.where(c.below(u, 2 * raw[:, 1]), ids[:, 1], -1)
        weights[:, 1] = raw[:, 1]  # as the original: not normalised
    ids = np.where(real[:, None], ids, -1)
    order, has_ties = c.by_priority(p.max(axis=1)) if is_prioritised else (None, False)
    C = case["capacity"] if "capacity" in case else math.ceil(case["capacity_factor"] * T)
    slots = c.claim(ids, E, C, c.choice_then_token(T, 2, order))
    if not case.get("normalize_first"):
        kept = np.where(slots >= 0, c.take(p, ids), 0)
        weights = kept / np.maximum(kept.sum(axis=1, keepdims=True), EPSILON)
    q = c.softmax(loss_logits)
    own, own_open = c.choose(q, 2)
    n = real.sum()
    share = (c.one_hot(own, E) * real[:, None, None]).sum(axis=0) / n
    loss = E * (share * ((q * real[:, None]).sum(axis=0) / n)).sum()
    return {"ids": ids, "slots": slots, "weights": weights, "capacity": C, "auxiliary_loss": loss,
            "undefined": c.KEPT_OPEN * has_ties + c.CHOICE_OPEN * own_open}


def nllb_adopt(case, is_prioritised, z, result):
    T, E = z.shape
    config = transformers.NllbMoeConfig(
        num_experts=E, expert_capacity=case.get("capacity", 64), second_expert_policy=case["second_policy"],
        normalize_router_prob_before_dropping=bool(case.get("normalize_first")), hidden_size=E, d_model=E,
        batch_prioritized_routing=is_prioritised, moe_eval_capacity_token_fraction=case.get("capacity_factor", 1.0))
    router = nllb.NllbMoeTop2Router(config).train("capacity" in case)
    seed = case.get("noise_seed", 0)
    noise = mock.Mock(return_value=mock.Mock(rsample=lambda shape: torch.tensor(c.gumbels(seed, T, E, 1))))
    real = real_of(case)
    padding = torch.tensor(~real) if "mask_seed" in case else None
    logits = torch.tensor(z)
    with mock.patch("torch.distributions.gumbel.Gumbel", noise), \
            mock.patch("torch.rand_like", lambda _: torch.tensor(c.second_uniforms(seed, T, E))):
        first_mask, weights = router.route_tokens(logits, padding_mask=padding)
    attention = torch.tensor(real).long().reshape(1, T) if "mask_seed" in case else None
    loss = float(nllb.load_balancing_loss_func((logits,), E, 2, attention))
    assert router.expert_capacity == result["capacity"], case
    if not result["undefined"] & c.CHOICE_OPEN:
        assert np.isclose(loss, result["auxiliary_loss"], rtol=2e-6), case
        result["auxiliary_loss"] = loss
    if result["undefined"] & c.KEPT_OPEN:
        return result
    weights, first_mask = weights.numpy(), first_mask.numpy()
    ids, slots = result["ids"], result["slots"]
    built, ours = np.zeros((T, E)), np.where(slots >= 0, result["weights"], 0)
    for t, k in np.argwhere(slots >= 0):
        built[t, ids[t, k]] += ours[t, k]
        ours[t, k] = weights[t, ids[t, k]]
    assert np.allclose(built, weights, atol=1e-6), case
    assert np.array_equal(c.one_hot(np.where(slots[:, 0] >= 0, ids[:, 0], -1), E), first_mask), case
    return result | {"weights": ours}


# Switch -------------------------------------------------------------------------------------------------------------


def switch_route(case, z, real, first):
    T, E = z.shape
    p = c.softmax(z)
    ids, _ = c.choose(p, 1)
    slots = c.claim(ids, E, case["capacity"], c.choice_then_token(T, 1))
    loss = E * E * (p.mean(axis=0) * c.one_hot(ids[:, 0], E).mean(axis=0)).mean()
    return {"ids": ids, "slots": slots, "weights": c.take(p, ids), "capacity": case["capacity"],
            "auxiliary_loss": loss, "z_loss": (c.log_sum_exp(z) ** 2).mean()}


def switch_adopt(case, z, result):
    T, E = z.shape
    S = case.get("group_size", T)
    config = transformers.SwitchTransformersConfig(num_experts=E, expert_capacity=case["capacity"], d_model=E)
    router = switch.SwitchTransformersTop1Router(config).eval()
    with torch.no_grad():
        router.classifier.weight.copy_(torch.eye(E))
        dispatch, weights, logits = router(torch.tensor(z).reshape(T // S, S, E))
        loss = switch.load_balancing_loss_func(torch.softmax(logits, dim=-1), logits.argmax(dim=-1))
        z_loss = switch.router_z_loss_func(logits)
    ids, slots = result["ids"][:, 0], result["slots"][:, 0]
    assert np.array_equal(logits.numpy().reshape(T, E), z)
    assert np.array_equal(dispatch.numpy().reshape(T, E), c.one_hot(np.where(slots >= 0, ids, -1), E)), case
    weights = weights.numpy().reshape(T, 1)
    assert np.allclose(weights, result["weights"], atol=1e-6), case
    for name, value in (("auxiliary_loss", float(loss)), ("z_loss", float(z_loss))):
        assert np.isclose(value, result[name], rtol=5e-6), (case, name)
        result[name] = value
    return result | {"weights": weights}


# Cases --------------------------------------------------------------------------------------------------------------


def case_of(name, index, seed):
    T, E, temperament = c.sizes(index)
    if name == "switch-transformers":
        case = {"seed": seed, "T": T, "E": E, "K": 1, "temperament": temperament}
        case["capacity"] = (1, 2, 4, 3, 64)[index % 5]
        if index % 3 == 1 and T % 2 == 0:
            case["group_size"] = T // 2
        return case
    case = {"seed": seed, "T": T, "E": E, "K": 2, "temperament": temperament}
    if index % 2:
        case["capacity"] = (2, 4, 64, 1, 3)[index // 2 % 5]
    else:
        case["capacity_factor"] = (1.0, 0.25, 0.5, 0.1)[index // 2 % 4]
    case["second_policy"] = ("all", "random", "all", "sampling")[index // 3 % 4]
    if case["second_policy"] != "all":
        case["noise_seed"] = seed + 2
    if index % 4 == 1:
        case["mask_seed"] = seed + 1
    if index % 5 == 2:
        case["normalize_first"] = 1
    return case


def result_of(name, case):
    z = c.logits(case["seed"], case["T"], case["E"], case["temperament"])
    if name == "switch-transformers":
        return switch_adopt(case, z, c.in_groups(case, z, None, lambda *part: switch_route(case, *part)))
    if not real_of(case).any():
        raise c.TooClose
    is_prioritised = name.endswith("bpr")
    return nllb_adopt(case, is_prioritised, z, nllb_route(case, is_prioritised, z))


NAMES = ("nllb-moe", "nllb-moe-bpr", "switch-transformers")

if __name__ == "__main__":
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, numpy {np.__version__}")
    for name in sys.argv[1:] or NAMES:
        c.make(name, 60, lambda index, seed: case_of(name, index, seed), lambda case: result_of(name, case))
