"""Makes the golden files of expert choice (three forms), hash, Sinkhorn, BASE, Soft MoE, quantile balancing and of the
losses: NumPy re-statements in float64 (assignments.py), written from the papers and the originals' sources:

  expert-choice        Zhou et al. 2022; flaxformer, routing.py, ExpertsChooseMaskedRouter
  vmoe-expert-choice   vmoe, nn/routing.py, NoisyTopItemsPerExpertRouter, and moe.py
  mesh-expert-choice   mesh-tensorflow 0.1.21, transformer/moe.py, _expert_selection_gating
  hash                 lingvo, gshard_layers.py, HashGatingOnLogits; ParlAI, hash_ladder.py; DeepseekV4HashRouter
  megatron-sinkhorn    megatron-core 0.16.1, moe_utils.sinkhorn and TopKRouter.sinkhorn_load_balancing
  base                 fairseq, base_layer.py and clib/libbase/balanced_assignment.cpp
  soft-moe             vmoe, projects/soft_moe/router.py
  quantile-balanced    Megatron-LM, moe_utils.qb_dual_update and the update of its bias
  assignment-losses    see the names below

Where experts choose, K = E: the experts of a token stand best weight first, the rest is -1; a pad that an expert takes
(no better token was left) keeps its id and slot with weight 0. Further flags in `undefined`: 4 the order of a token's
choices is open, 8 the original has no rule here and ours is stored, 16 our limit of rounds ended the iteration.

Usage: python3 make_assignments.py  (NumPy only)"""

import json
import math
from pathlib import Path

import numpy as np

import assignments as a
import cases as frame

ORDER_OPEN, OURS, LIMITED = 4, 8, 16
SINKHORN_LIMIT = 1000
TEMPERAMENTS = ["plain", "sharp", "ties", "skewed", "underflow"]
KINDS = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "F32": "<f4", "U8": "u1"}


def pick(i, values):
    """A value for case i; lists of different lengths meet in all combinations in time."""
    return values[i % len(values)]


def mask_of(case):
    T = case["T"]
    return np.float64(frame.mask(case["mask_seed"], T)) if "mask_seed" in case else np.ones(T)


def logits_of(case):
    return frame.logits(case["seed"], case["T"], case["E"], case["temperament"])


def refuse(unclear):
    if unclear:
        raise frame.TooClose


def write(name, count, build):
    """Writes a golden file of build(i, seed) -> case, tensors {name: (kind, values)}; a case with a close decision is
    tried again with another seed."""
    cases, parts = [], {}
    for i in range(count):
        for attempt in range(40):
            try:
                case, tensors = build(i, 1000 * i + attempt)
                break
            except frame.TooClose:
                pass
        else:
            raise RuntimeError(f"{name}: case {i} has no seed without a close decision")
        cases.append(case)
        for key, (kind, values) in tensors.items():
            exact = np.concatenate([np.ravel(part) for part in values]) if isinstance(values, list) else np.ravel(values)
            array = exact.astype(KINDS[kind])
            assert np.isfinite(exact).all() and (kind == "F32" or (array == exact).all()), (name, key, case)
            parts.setdefault(key, (kind, []))[1].append(array.tobytes())
    header, data = {"__metadata__": {"cases": json.dumps(cases, separators=(",", ":"))}}, b""
    for key, (kind, chunks) in parts.items():
        bytes_ = b"".join(chunks)
        header[key] = {"dtype": kind, "shape": [len(bytes_) // np.dtype(KINDS[kind]).itemsize],
                       "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = Path(frame.HERE) / f"{name}.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    print(f"{name}: {count} cases, {path.stat().st_size} bytes")


def plain(ids, slots, weights, capacity, undefined, **others):
    return {"expert_ids": ("I8", ids), "slots": ("I16", slots), "weights": ("F32", weights),
            "capacity": ("I32", capacity), "undefined": ("U8", undefined), "auxiliary_loss": ("F32", 0.0), **others}


# Experts choose -----------------------------------------------------------------------------------------------------


def choose(case, z, rule, capacity, loss):
    """Routes group by group. `capacity` maps the tokens of a group to the formula's number; more than there are tokens
    (the originals raise) means all tokens."""
    m, size = mask_of(case), case.get("group_size", case["T"])
    C, parts, total, flags = min(capacity(size), size), [], 0, 0
    for first in range(0, case["T"], size):
        rows = slice(first, first + size)
        if "mask_seed" in case and m[rows].sum() == 0:
            raise frame.TooClose  # a group of pads only: mesh's softmax is noise there
        parts.append(rule(z[rows], m[rows], C))
        if parts[-1][3]:  # shares of permuted rows: equal or not by rounding
            refuse(case["temperament"] != "ties")
            flags = frame.KEPT_OPEN
        total += loss(z[rows], m[rows]) * size / case["T"]
    ids, slots, weights = ([part[j] for part in parts] for j in range(3))
    return plain(ids, slots, weights, C, flags, auxiliary_loss=("F32", total))


def expert_choice(i, seed):
    T, E = 4 + 2 * (i * 7 % 11), pick(i, [2, 3, 4, 5, 8, 6, 7, 4])
    case = {"seed": seed, "T": T, "E": E, "K": E, "temperament": pick(i, TEMPERAMENTS),
            "capacity_factor": pick(i, [1.0, 2.0, 0.5, 1.25]), "min_capacity": pick(i, [1, 4, 1])}
    if i % 4 == 3:
        case["mask_seed"] = 500 + i
    if i % 6 == 5:
        case["group_size"] = T // 2
    z = logits_of(case)
    tensors = choose(case, z, a.expert_choice, lambda size: max(
        a.half_even(case["capacity_factor"] * size / E), case["min_capacity"]), lambda z, m: 0.0)
    # Pads' logits are zeros and stay in the sum.
    tensors["z_loss"] = ("F32", (a.log_sum_exp(z * mask_of(case)[:, None]) ** 2).mean())
    return case, tensors


def vmoe_expert_choice(i, seed):
    T, E = 6 + i * 5 % 19, pick(i, [2, 3, 4, 8, 5, 6])
    case = {"seed": seed, "T": T, "E": E, "K": E, "temperament": pick(i, TEMPERAMENTS),
            "capacity_factor": pick(i, [1.0, 1.05, 2.0, 0.5]), "capacity_rounding": pick(i, ["ceil", "round", "ceil"]),
            "capacity_multiple": pick(i, [4, 1])}
    z = logits_of(case)
    if i % 3 == 2:
        case["noise_seed"], case["noise_std"] = 900 + i, pick(i, [1.0, 2.0])
        z = z + a.f32(case["noise_std"] / E) * frame.gaussians(case["noise_seed"], T, E)
    rounding = math.ceil if case["capacity_rounding"] == "ceil" else a.half_even

    def capacity(size):
        C = max(rounding(size * case["capacity_factor"] / E), 1)
        return C + -C % case["capacity_multiple"]

    return case, choose(case, z, a.expert_choice, capacity, lambda z, m: 0.0)


def mesh_expert_choice(i, seed):
    T, E = 4 + 2 * (i * 5 % 11), pick(i, [2, 3, 4, 5, 8, 6, 7])
    case = {"seed": seed, "T": T, "E": E, "K": E, "temperament": pick(i, TEMPERAMENTS),
            "capacity_factor": pick(i, [1.25, 2.0, 0.5]), "min_capacity": pick(i, [4, 1])}
    if i % 3 == 2:
        case["mask_seed"] = 700 + i
    if i % 5 == 4 and T >= 8:
        case["group_size"] = T // 2
    z, m = logits_of(case), mask_of(case)
    tensors = choose(case, z, a.mesh_expert_choice, lambda size: max(
        min(size, int(size * case["capacity_factor"] / E)), case["min_capacity"]), a.mesh_group_loss)
    tensors["z_loss"] = ("F32", (a.log_sum_exp(z) ** 2 * m).sum() / m.sum())
    return case, tensors


# A table chooses ----------------------------------------------------------------------------------------------------


def hashes(i, seed):
    """Tokens and table from one generator: first the T token ids, next() mod vocabulary, then the table row by row,
    next() mod E without an expert that the row has. Both are in the file too."""
    T, E, form = 4 + i * 7 % 21, pick(i, [2, 4, 8, 5, 16]), pick(i, ["lingvo", "parlai", "deepseek_v4"])
    K = min(pick(i // 3, [1, 2, 3]), E) if form == "deepseek_v4" else 1
    case = {"seed": seed, "T": T, "E": E, "K": K, "temperament": pick(i, TEMPERAMENTS), "form": form, "vocabulary": 12,
            "table_seed": 1400 + i}
    generator = frame.SeededGenerator(case["table_seed"])
    tokens = [generator.next() % 12 for _ in range(T)]
    table = []
    for _ in range(12):
        row = []
        while len(row) < K:
            e = generator.next() % E
            row += [e] * (e not in row)
        table.append(row)
    if form == "lingvo":
        case["capacity"] = pick(i, [1, 2, 4])
        if i % 2:
            case["mask_seed"] = 800 + i
    m = mask_of(case)
    ids = np.array([table[t] for t in tokens])
    slots = a.in_order(ids, m, case.get("capacity", -1), E)
    weights = np.ones((T, K))
    if form == "deepseek_v4":
        case["scale"] = 1.5
        s = np.take_along_axis(a.square_root_of_softplus(logits_of(case)), ids, 1)
        weights = s / (s.sum(1, keepdims=True) + 1e-20) * case["scale"]
    ids[m == 0] = -1
    # lingvo adds dropped tokens and pads to slot 0; the file has what its mask means.
    ours = OURS * bool(form == "lingvo" and (slots < 0).any())
    return case, plain(ids, slots, weights * (slots >= 0), case.get("capacity", -1), ours, tokens=("I16", tokens),
                       table=("I8", table))


# A plan chooses -----------------------------------------------------------------------------------------------------


def tie(rows, K):
    """The flags of exact ties among the K + 1 largest of each row (sorted)."""
    flags = 0
    for row in rows:
        for j in range(min(K, len(row) - 1)):
            if row[j] == row[j + 1]:
                flags |= frame.CHOICE_OPEN if j == K - 1 else ORDER_OPEN
    return flags


def megatron_sinkhorn(i, seed):
    T, E = 4 + i * 7 % 21, pick(i, [2, 3, 4, 5, 8, 6, 16])
    K = min(pick(i, [1, 1, 2, 3]), E - 1)
    case = {"seed": seed, "T": T, "E": E, "K": K, "temperament": pick(i, TEMPERAMENTS), "training": i % 6 != 5}
    if i % 20 == 19:  # few tokens and far logits: the plan creeps
        T, E = 5, 8
        case.update(T=T, E=E, K=K, temperament="sharp")
    z = logits_of(case)
    score, rounds, flags = np.float64(z), 0, 0
    if case["training"]:
        score, rounds = a.sinkhorn(z, SINKHORN_LIMIT)
        rough, _ = a.sinkhorn(z, SINKHORN_LIMIT, np.float32)
        flags = LIMITED * (rounds == SINKHORN_LIMIT)
        refuse((a.top(score, K) != a.top(rough, K)).any())
    ids = a.top(score, K)
    ranked = -np.sort(-score, 1)[:, : K + 1]
    refuse(any(a.near(row, lambda j: row[j] == row[j + 1]) for row in ranked))
    flags |= tie(ranked, K)
    activation = a.sigmoid(z) if K == 1 else a.softmax(z)
    return case, plain(ids, a.in_order(ids, np.ones(T), -1, E), np.take_along_axis(activation, ids, 1), -1, flags,
                       rounds=("I32", rounds))


def base(i, seed):
    E = pick(i, [2, 3, 4, 5, 6, 8])
    T = E * (1 + i % 5) if E * (1 + i % 5) <= 24 else 2 * E
    case = {"seed": seed, "T": T + (i % 8 == 7), "E": E, "K": 1, "temperament": pick(i, TEMPERAMENTS),
            "training": i % 6 != 5}
    if i % 8 == 6:
        case["mask_seed"] = 1700 + i
    z, m, T, rounds = logits_of(case), mask_of(case), case["T"], 0
    flags = OURS * bool("mask_seed" in case or (case["training"] and T % E))
    if case["training"]:
        owner, rounds = a.base(z, m)
        flags |= frame.CHOICE_OPEN * bool((owner != a.base(z, m, backwards=True)[0]).any())
    else:
        owner = np.where(m > 0, z.argmax(1), -1)
        flags |= tie(-np.sort(-z, 1)[:, :2], 1)
    ids = owner[:, None]
    weights = a.sigmoid(np.take_along_axis(z, np.maximum(ids, 0), 1)) * (ids >= 0)
    return case, plain(ids, a.in_order(ids, m, -1, E), weights, -1, flags, rounds=("I32", rounds))


def soft_moe(i, seed):
    T, E, S = 4 + i * 3 % 13, pick(i, [2, 3, 4, 8]), pick(i, [1, 2, 1, 1, 3])
    case = {"seed": seed, "T": T, "E": E, "K": 1, "temperament": pick(i, TEMPERAMENTS), "slots": S}
    if i % 4 == 3:
        case["mask_seed"] = 1900 + i
    if i % 5 == 1:  # inputs [T, hidden] and slot vectors [hidden, E * slots]: `plain` tables of the two seeds
        case["hidden"], case["scale"], case["slot_seed"] = 6, pick(i, [1.0, 4.0]), 2100 + i
        z = a.soft_logits(frame.logits(case["seed"], T, 6, "plain"),
                          frame.logits(case["slot_seed"], 6, E * S, "plain"), case["scale"])
    else:
        z = frame.logits(case["seed"], T, E * S, case["temperament"])
    dispatch, combine = a.soft(z, mask_of(case))
    return case, {"dispatch": ("F32", dispatch), "combine": ("F32", combine), "capacity": ("I32", S),
                  "undefined": ("U8", OURS * ("mask_seed" in case)), "auxiliary_loss": ("F32", 0.0)}


def quantile_balanced(i, seed):
    E = pick(i, [2, 3, 4, 5, 8, 6, 16])
    K, T = min(pick(i, [1, 2, 1, 3]), E - 1), 4 + i * 7 % 21
    if i % 3:
        T = max(E // math.gcd(E, K), T // E * E)  # T * K divides by E
    case = {"seed": seed, "T": T, "E": E, "K": K, "temperament": pick(i, TEMPERAMENTS),
            "score": pick(i, ["softmax", "sigmoid", "pre_softmax"]), "average": pick(i, [0.9, 0.0])}
    beta = np.zeros(E, np.float32)
    if i % 4:
        case["bias_seed"] = 2300 + i
        beta = frame.logits(case["bias_seed"], 1, E, "plain")[0]
    z = logits_of(case)
    ids, local = a.quantile(z, beta, K)
    chosen = np.take_along_axis(np.float64(z), ids, 1)
    if case["score"] == "softmax":
        weights = a.softmax(chosen)
    elif case["score"] == "pre_softmax":
        weights = np.take_along_axis(a.softmax(z), ids, 1)
    else:
        weights = a.sigmoid(chosen)
        weights = weights / (weights.sum(1, keepdims=True) + 1e-20) if K > 1 else weights
    following = case["average"] * np.float64(beta) + (1 - case["average"]) * np.float64(local)
    flags = tie(-np.sort(-(z - beta), 1)[:, : K + 1], K) | OURS * bool(T * K % E)
    return case, plain(ids, a.in_order(ids, np.ones(T), -1, E), weights, -1, flags, quantile=("F32", local),
                       next_bias=("F32", following - following.mean()))


# Losses -------------------------------------------------------------------------------------------------------------


def losses(i, seed):
    """Every loss, and its slope along `plain` logits of direction_seed with all decisions held. The mask is used by
    those whose original has one, and by DeepSeek's terms (ours). Layer l has the logits of seed + 500000 l. The noise
    is gaussians(noise_seed); FastMoE's deviation is softplus(`plain` logits of deviation_seed) + 0.01."""
    E = pick(i, [4, 8, 2, 6, 16])
    T, K = 6 + 2 * (i * 7 % 10), min(pick(i, [2, 1, 3, 2]), E)
    devices = pick(i, [2, E])
    case = {"seed": seed, "T": T, "E": E, "K": K, "temperament": pick(i, TEMPERAMENTS), "layers": pick(i, [1, 2]),
            "noise_seed": 3000 + i, "deviation_seed": 4000 + i, "gate_noise": pick(i, [1.0, 0.5, 2.0]),
            "capacity_factor": pick(i, [1.2, 0.5, 2.4]), "devices": devices, "device_limit": min(pick(i, [1, 2]), devices),
            "sequence": pick(i, [T, T // 2]), "direction_seed": 5000 + i}
    if i % 3 == 1:
        case["mask_seed"] = 6000 + i
    tables = [np.float64(frame.logits(case["seed"] + 500000 * layer, T, E, case["temperament"]))
              for layer in range(case["layers"])]
    z, rest, m = tables[0], tables[1:], mask_of(case)
    noise = np.float64(frame.gaussians(case["noise_seed"], T, E))
    spread = np.logaddexp(0, np.float64(frame.logits(case["deviation_seed"], T, E))) + 0.01
    direction = np.float64(frame.logits(case["direction_seed"], T, E))
    flags = 0
    for table in tables + [z + case["gate_noise"] / E * noise, z + spread * noise]:
        ranked = -np.sort(-table, 1)
        refuse(any(a.near(row, lambda j: row[j] == row[j + 1]) for row in ranked))
        flags |= bool(tie(ranked, E))
    C = math.ceil(case["capacity_factor"] * T / E)
    term = lambda j: lambda s, z: a.deepseek(s, z, m, K, devices, case["device_limit"], case["sequence"])[j]
    named = {
        "mesh_top2": lambda s, z: a.mesh_first_place(s, z, m),
        "mesh_second_place": lambda s, z: a.mesh_second_place(s, z, m),
        "flaxformer_topk": lambda s, z: a.flaxformer(s, z, m, K),
        "megablocks": lambda s, z: a.megablocks([s] + rest, [z] + rest, K),
        "fastmoe_gshard": a.fastmoe_gshard,
        "fastmoe_switch": lambda s, z: a.fastmoe_switch(s, z, C),
        "hugging_face": lambda s, z: a.hugging_face([s] + rest, [z] + rest, m, K),
        "tutel_importance_load": lambda s, z: a.tutel(s, z, noise, K, case["gate_noise"]),
        "fastmoe_noisy": lambda s, z: a.fastmoe_noisy(s, z, noise, spread, K),
        "vmoe_importance": lambda s, z: a.vmoe_importance(z),
        "vmoe_load": lambda s, z: a.vmoe_load(s, z, noise, K, case["gate_noise"]),
        "deepseek_expert": term(0),
        "deepseek_device": term(1),
        "deepseek_communication": term(2),
        "mesh_expert_choice_group": lambda s, z: a.mesh_group_loss(z, m),
        "mutual_information": lambda s, z: a.mutual_information(z, m),
    }
    tensors = {"undefined": ("U8", frame.CHOICE_OPEN * flags)}
    for name, loss in named.items():
        tensors[name] = ("F32", loss(z, z))
        tensors["slope_" + name] = ("F32", a.slope(loss, z, direction))
    return case, tensors


if __name__ == "__main__":
    write("expert-choice", 60, expert_choice)
    write("vmoe-expert-choice", 40, vmoe_expert_choice)
    write("mesh-expert-choice", 60, mesh_expert_choice)
    write("hash", 60, hashes)
    write("megatron-sinkhorn", 60, megatron_sinkhorn)
    write("base", 60, base)
    write("soft-moe", 40, soft_moe)
    write("quantile-balanced", 60, quantile_balanced)
    write("assignment-losses", 60, losses)
