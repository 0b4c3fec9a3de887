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

No original is needed to run this; CHECKED below says which were run beside it. Flags in `undefined`: 1 the order of ties
or a difference within rounding decides; 2 our limit of rounds decides; 4 the original has no rule here.

Usage: python3 make_assignments.py  (NumPy 2.4.6)"""

import json
import math
import pathlib

import numpy as np

import assignments as a
import cases as frame

HERE = pathlib.Path(__file__).parent
TEMPERAMENTS = ["plain", "sharp", "ties", "skewed", "underflow"]
SINKHORN_LIMIT = 1000


def mask_of(case, T):
    if "mask_seed" not in case:
        return np.ones(T)
    return np.asarray(frame.mask(case["mask_seed"], T), np.float64)


def pick(i, values):
    """A value for case i; lists of different lengths give every combination in time."""
    return values[i % len(values)]


class File:
    """One golden file: the cases and their flat tensors."""

    def __init__(self, name):
        self.name, self.cases, self.parts = name, [], {}

    def add(self, case, **tensors):
        self.cases.append(case)
        for key, (kind, values) in tensors.items():
            self.parts.setdefault(key, (kind, []))[1].append(np.asarray(values, np.float64).ravel())

    def write(self):
        tensors = {}
        for key, (kind, parts) in self.parts.items():
            values = np.concatenate(parts)
            tensors[key] = values.astype({"I8": "<i1", "I16": "<i2", "I32": "<i4", "F32": "<f4", "U8": "u1"}[kind])
            if kind != "F32":
                assert (tensors[key] == values).all(), key
            assert np.isfinite(values).all(), key
        size = frame.write(HERE / f"{self.name}.safetensors", tensors, self.cases)
        print(f"{self.name}: {len(self.cases)} cases, {size} bytes")


def one(value):
    return ("F32", [value])


# -- experts choose -------------------------------------------------------------------------------------------------


def expert_choice():
    file = File("expert-choice")
    for i in range(60):
        T, E, groups = 4 + 2 * (i * 7 % 11), pick(i, [2, 3, 4, 5, 8, 6, 7, 4]), 1
        case = {"seed": 100 + i, "T": T, "E": E, "K": E, "temperament": pick(i, TEMPERAMENTS),
                "capacity_factor": pick(i, [1.0, 2.0, 0.5, 1.25]), "min_capacity": pick(i, [1, 4, 1])}
        if i % 4 == 3:
            case["mask_seed"] = 500 + i
        if i % 6 == 5:
            case["group_size"], groups = T // 2, 2
        choose(file, case, groups, a.expert_choice, lambda S: max(
            a.half_even(case["capacity_factor"] * S / E), case["min_capacity"]), lambda z, m: 0.0, flaxformer_z)
    file.write()


def flaxformer_z(z, m, groups):
    """Pads' logits are zero and stay in the sum."""
    return (a.log_sum_exp(z * m[:, None]) ** 2).mean()


def mesh_z(z, m, groups):
    """Over real tokens only, of the whole batch."""
    return (a.log_sum_exp(z) ** 2 * m).sum() / m.sum()


def choose(file, case, groups, rule, capacity, loss, z_loss, noise=0):
    T, E = case["T"], case["E"]
    z, m = frame.logits(case["seed"], T, E, case["temperament"]), mask_of(case, T)
    noisy = a.f32(z + a.f32(noise)) if np.any(noise) else z
    S = T // groups
    C = min(capacity(S), S)
    ids, slots, weights, undefined, aux = [], [], [], False, 0
    for g in range(groups):
        rows = slice(g * S, (g + 1) * S)
        i, s, w, unclear = rule(noisy[rows], m[rows], C)
        ids.append(i), slots.append(s), weights.append(w)
        undefined |= bool(unclear)
        aux += loss(noisy[rows], m[rows]) / groups
    file.add(case, expert_ids=("I8", ids), slots=("I16", slots), weights=("F32", weights), capacity=("I32", [C]),
             auxiliary_loss=one(aux), z_loss=one(z_loss(np.float64(z), m, groups)), undefined=("U8", [undefined]))


def vmoe_expert_choice():
    file = File("vmoe-expert-choice")
    for i in range(40):
        T, E = 6 + i * 5 % 19, pick(i, [2, 3, 4, 8, 5, 6])
        case = {"seed": 200 + i, "T": T, "E": E, "K": E, "temperament": pick(i, TEMPERAMENTS),
                "capacity_factor": pick(i, [1.0, 1.05, 2.0, 0.5]), "capacity_rounding": pick(i, ["ceil", "round", "ceil"]),
                "capacity_multiple": pick(i, [4, 1])}
        noise = 0
        if i % 3 == 2:  # standard normals: the `plain` logits of noise_seed
            case["noise_seed"], case["noise_deviation"] = 900 + i, 1.0
            noise = a.f32(1 / E) * frame.logits(case["noise_seed"], T, E, "plain")
        rounding = math.ceil if case["capacity_rounding"] == "ceil" else a.half_even

        def capacity(S):
            C = max(rounding(S * case["capacity_factor"] / E), 1)
            return C + -C % case["capacity_multiple"]

        choose(file, case, 1, a.expert_choice, capacity, lambda z, m: 0.0, lambda z, m, g: 0.0, noise)
    del file.parts["z_loss"]
    file.write()


def mesh_expert_choice():
    file = File("mesh-expert-choice")
    for i in range(60):
        T, E, groups = 4 + 2 * (i * 5 % 11), pick(i, [2, 3, 4, 5, 8, 6, 7]), 1
        case = {"seed": 300 + i, "T": T, "E": E, "K": E, "temperament": pick(i, TEMPERAMENTS),
                "capacity_factor": pick(i, [1.25, 2.0, 0.5]), "min_capacity": pick(i, [4, 1])}
        if i % 3 == 2:
            case["mask_seed"] = 700 + i
        if i % 5 == 4 and T >= 8:
            case["group_size"], groups = T // 2, 2
        choose(file, case, groups, a.mesh_expert_choice, lambda S: max(
            min(S, int(S * case["capacity_factor"] / E)), case["min_capacity"]), a.mesh_group_loss, mesh_z)
    file.write()


# -- a table chooses ------------------------------------------------------------------------------------------------


def hashes():
    file = File("hash")
    for i in range(60):
        T, E, form = 4 + i * 7 % 21, pick(i, [2, 4, 8, 5, 16]), pick(i, ["lingvo", "parlai", "deepseek_v4"])
        K = pick(i // 3, [1, 2, 3]) if form == "deepseek_v4" else 1
        K, V = min(K, E), 12
        case = {"seed": 400 + i, "T": T, "E": E, "K": K, "temperament": pick(i, TEMPERAMENTS), "form": form,
                "vocabulary": V}
        generator = frame.SeededGenerator(1400 + i)
        tokens = [generator.next() % V for _ in range(T)]
        table = []
        for _ in range(V):  # K different experts for every token id
            row = []
            while len(row) < K:
                e = generator.next() % E
                row += [e] * (e not in row)
            table.append(row)
        capacity = -1
        if form == "lingvo":
            case["capacity"] = capacity = pick(i, [1, 2, 4])
            if i % 2:
                case["mask_seed"] = 800 + i
        m = mask_of(case, T)
        ids = np.array([table[t] for t in tokens])
        slots = a.in_order(ids, m, capacity, E)
        weights = np.ones((T, K))
        if form == "deepseek_v4":
            case["scale"] = 1.5
            s = a.square_root_of_softplus(frame.logits(case["seed"], T, E, case["temperament"]))
            s = np.take_along_axis(s, ids, 1)
            weights = s / (s.sum(1, keepdims=True) + 1e-20) * case["scale"]
        ids[m == 0] = -1
        file.add(case, tokens=("I16", tokens), table=("I8", table), expert_ids=("I8", ids), slots=("I16", slots),
                 weights=("F32", weights * (slots >= 0)), capacity=("I32", [capacity]), auxiliary_loss=one(0),
                 undefined=("U8", [0]))
    file.write()


# -- a plan chooses -------------------------------------------------------------------------------------------------


def megatron_sinkhorn():
    file = File("megatron-sinkhorn")
    for i in range(60):
        T, E, K = 4 + i * 7 % 21, pick(i, [2, 3, 4, 5, 8, 6, 16]), pick(i, [1, 1, 2, 3])
        K, training = min(K, E - 1), i % 6 != 5
        case = {"seed": 600 + i, "T": T, "E": E, "K": K, "temperament": pick(i, TEMPERAMENTS), "training": training}
        z = frame.logits(case["seed"], T, E, case["temperament"])
        activation = a.sigmoid(z) if K == 1 else a.softmax(z)
        rounds, flags, score = 0, 0, np.float64(z)
        if training:
            score, rounds = a.sinkhorn(z, SINKHORN_LIMIT)
            rough, others = a.sinkhorn(z, SINKHORN_LIMIT, np.float32)
            flags |= 2 * (rounds == SINKHORN_LIMIT)
            flags |= (a.top(score, K) != a.top(rough, K)).any()
        order = np.argsort(-score, 1, kind="stable")
        if K < E:
            sorted_score = np.take_along_axis(score, order, 1)[:, : K + 1]
            flags |= any(a.near(row, lambda j: False) for row in sorted_score)
        ids = order[:, :K]
        file.add(case, expert_ids=("I8", ids), slots=("I16", a.in_order(ids, np.ones(T), -1, E)),
                 weights=("F32", np.take_along_axis(activation, ids, 1)), capacity=("I32", [-1]),
                 rounds=("I32", [rounds]), auxiliary_loss=one(0), undefined=("U8", [flags]))
    file.write()


def base():
    file = File("base")
    for i in range(60):
        E = pick(i, [2, 3, 4, 5, 6, 8])
        T = E * (1 + i % 5) if E * (1 + i % 5) <= 24 else 2 * E
        case = {"seed": 1000 + i, "T": T, "E": E, "K": 1, "temperament": pick(i, TEMPERAMENTS), "training": i % 6 != 5}
        flags = 0
        if i % 8 == 6:
            case["mask_seed"], flags = 1700 + i, 4
        if i % 8 == 7:
            case["T"], flags = T + 1, 4
        T = case["T"]
        z, m = frame.logits(case["seed"], T, E, case["temperament"]), mask_of(case, T)
        rounds = 0
        if case["training"]:
            owner, rounds = a.base(z, m)
            flags |= int((owner != a.base(z, m, backwards=True)[0]).any())
        else:
            flags = 4 * ("mask_seed" in case)
            owner = np.where(m > 0, z.argmax(1), -1)
            flags |= int(any((z[t] == z[t].max()).sum() > 1 for t in range(T)))
        ids = owner[:, None]
        weights = a.sigmoid(np.take_along_axis(z, np.maximum(ids, 0), 1)) * (ids >= 0)
        file.add(case, expert_ids=("I8", ids), slots=("I16", a.in_order(ids, m, -1, E)), weights=("F32", weights),
                 capacity=("I32", [-1]), rounds=("I32", [rounds]), auxiliary_loss=one(0), undefined=("U8", [flags]))
    file.write()


def soft_moe():
    file = File("soft-moe")
    for i in range(40):
        T, E, S = 4 + i * 3 % 13, pick(i, [2, 3, 4, 8]), pick(i, [1, 2, 1, 1, 3])
        case = {"seed": 1100 + i, "T": T, "E": E, "K": 1, "temperament": pick(i, TEMPERAMENTS), "slots": S}
        if i % 4 == 3:
            case["mask_seed"] = 1900 + i
        flags = 4 * ("mask_seed" in case)
        if i % 5 == 1:  # inputs and slot vectors instead of logits: `plain` tables of the two seeds
            case["hidden"], case["scale"], case["slot_seed"] = 6, pick(i, [1.0, 4.0]), 2100 + i
            z = a.soft_logits(frame.logits(case["seed"], T, 6, "plain"),
                              frame.logits(case["slot_seed"], 6, E * S, "plain"), case["scale"])
        else:
            z = frame.logits(case["seed"], T, E * S, case["temperament"])
        dispatch, combine = a.soft(z, mask_of(case, T))
        file.add(case, dispatch=("F32", dispatch), combine=("F32", combine), capacity=("I32", [S]),
                 auxiliary_loss=one(0), undefined=("U8", [flags]))
    file.write()


def quantile_balanced():
    file = File("quantile-balanced")
    for i in range(60):
        E, K = pick(i, [2, 3, 4, 5, 8, 6, 16]), pick(i, [1, 2, 1, 3])
        K, T = min(K, E - 1), 4 + i * 7 % 21
        if i % 3:
            T = max(E // math.gcd(E, K), T // E * E)  # T·K divides by E
        case = {"seed": 1200 + i, "T": T, "E": E, "K": K, "temperament": pick(i, TEMPERAMENTS),
                "score": pick(i, ["softmax", "sigmoid", "pre_softmax"]), "beta_seed": 2300 + i, "average": 0.9}
        z = frame.logits(case["seed"], T, E, case["temperament"])
        beta = frame.logits(case["beta_seed"], 1, E, "plain")[0] if i % 4 else np.zeros(E, a.f32)
        if not i % 4:
            del case["beta_seed"]
        ids, local = a.quantile(z, beta, K)
        chosen = np.take_along_axis(np.float64(z), ids, 1)
        if case["score"] == "softmax":
            weights = a.softmax(chosen)
        elif case["score"] == "pre_softmax":
            weights = np.take_along_axis(a.softmax(z), ids, 1)
        else:
            weights = a.sigmoid(chosen)
            weights = weights / (weights.sum(1, keepdims=True) + 1e-20) if K > 1 else weights
        following = 0.9 * np.float64(beta) + 0.1 * np.float64(local)
        biased = -np.sort(-(z - beta), 1)[:, : K + 1]
        flags = int(any(a.near(np.float64(row), lambda j: False) for row in biased)) + 4 * int(T * K % E != 0)
        file.add(case, expert_ids=("I8", ids), slots=("I16", a.in_order(ids, np.ones(T), -1, E)),
                 weights=("F32", weights), capacity=("I32", [-1]), quantile=("F32", local),
                 next_bias=("F32", following - following.mean()), auxiliary_loss=one(0), undefined=("U8", [flags]))
    file.write()


# -- losses ---------------------------------------------------------------------------------------------------------


def losses():
    """Every loss of every case, and its slope along `plain` logits of direction_seed. The mask is used by those whose
    original has one, and by DeepSeek's terms (ours)."""
    file = File("assignment-losses")
    for i in range(60):
        E = pick(i, [4, 8, 2, 6, 16])
        T, K = 6 + 2 * (i * 7 % 10), min(pick(i, [2, 1, 3, 2]), E)
        case = {"seed": 1300 + i, "T": T, "E": E, "K": K, "temperament": pick(i, TEMPERAMENTS), "layers": pick(i, [1, 2]),
                "noise_seed": 3000 + i, "deviation_seed": 4000 + i, "gate_noise": pick(i, [1.0, 0.5, 2.0]),
                "capacity_factor": pick(i, [1.2, 0.5, 2.4]), "devices": pick(i, [2, E]), "device_limit": min(pick(i, [1, 2]), pick(i, [2, E])),
                "sequence": pick(i, [T, T // 2]), "direction_seed": 5000 + i}
        if i % 3 == 1:
            case["mask_seed"] = 6000 + i
        tables = [np.float64(frame.logits(case["seed"] + 1000 * layer, T, E, case["temperament"]))
                  for layer in range(case["layers"])]
        z, m, rest = tables[0], mask_of(case, T), tables[1:]
        noise = np.float64(frame.logits(case["noise_seed"], T, E, "plain"))
        spread = np.logaddexp(0, np.float64(frame.logits(case["deviation_seed"], T, E, "plain"))) + 0.01
        direction = np.float64(frame.logits(case["direction_seed"], T, E, "plain"))
        C = math.ceil(case["capacity_factor"] * T / E)
        term = lambda j: lambda s, z: a.deepseek(
            s, z, m, K, case["devices"], case["device_limit"], case["sequence"])[j]
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
            "deepseek_expert": term(0), "deepseek_device": term(1), "deepseek_communication": term(2),
            "mesh_expert_choice_group": lambda s, z: a.mesh_group_loss(z, m),
            "mutual_information": lambda s, z: a.mutual_information(z, m),
        }
        tensors = {}
        for name, loss in named.items():
            tensors[name] = one(loss(z, z))
            tensors["slope_" + name] = one(a.slope(loss, z, direction))
        tied = any(len(set(row)) < E for table in tables for row in table)
        file.add(case, **tensors, undefined=("U8", [tied]))
    file.write()


if __name__ == "__main__":
    for make in [expert_choice, vmoe_expert_choice, mesh_expert_choice, hashes, megatron_sinkhorn, base, soft_moe,
                 quantile_balanced, losses]:
        make()
