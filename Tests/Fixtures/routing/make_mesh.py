"""Golden files of mesh-tensorflow's gates: switch, mesh-top2, mesh-ntlb, mesh-switch-max.

The numbers are a re-statement in float64 of transformer/moe.py of mesh-tensorflow 0.1.21. Where mesh-tensorflow and
TensorFlow are installed, every case is also run through the original, with an identity as router weights, and must
agree:

  pip install mesh-tensorflow==0.1.21 tensorflow-cpu==2.12.1 tensorflow-datasets==4.9.3 "tensorflow-metadata<1.15"
"""

import sys

import numpy as np

import cases as c


def capacity(case, T, E):
    return max(min(T, int((T * case["capacity_factor"]) / E)), case.get("min_capacity", 4))


def balance(ids, p, real, E):
    """The loss of switch, ntlb and switch_max: pads are in both means, and the mask meets the mean. `ids` is [T, k]."""
    share = c.one_hot(ids, E).mean(axis=0)
    return E * E * (share * p.mean(axis=0)).mean() * real.mean()


def z_loss(z, real):
    return float((c.log_sum_exp(z) ** 2 * real).sum() / real.sum())


def switch(case, z, real, first):
    T, E = z.shape
    p = c.softmax(z)
    ids, _ = c.choose(p, 1)
    if "temperature" in case:  # the policy `sample`
        noise = c.gumbels(case["noise_seed"], T, E, 0, first) * np.float32(case["temperature"])
        ids = c.noisy_argmax(z + noise)[:, None]
    loss = balance(ids, p, real, E)
    ids = np.where(real[:, None], ids, -1)
    C = capacity(case, T, E)
    slots = c.claim(ids, E, C, c.choice_then_token(T, 1))
    return {"ids": ids, "slots": slots, "weights": c.take(p, ids), "capacity": C, "auxiliary_loss": loss}


def switch_max(case, z, real, first):
    result = switch(case, z, real, first)
    E, C = z.shape[1], result["capacity"]
    slots, is_open = c.claim_by_score(result["ids"], result["weights"], E, C, ranked=True)
    if is_open and case["temperament"] != "ties":
        raise c.TooClose
    return result | {"slots": slots}


def ntlb(case, z, real, first):
    T, E = z.shape
    p = c.softmax(z)
    ids, _ = c.choose(p, case["K"])
    loss = balance(ids, p, real, E)
    ids = np.where(real[:, None], ids, -1)
    C = capacity(case, T, E)
    slots = np.full(ids.shape, -1)
    used = np.zeros(E, int)
    for t, k in c.choice_then_token(T, case["K"]):
        expert = ids[t, k]
        if expert >= 0 and slots[t].max() < 0 and used[expert] < C:
            slots[t, k] = used[expert]
            used[expert] += 1
    return {"ids": ids, "slots": slots, "weights": c.take(p, ids), "capacity": C, "auxiliary_loss": loss}


def top2(case, z, real, first):
    T, E = z.shape
    p = c.softmax(z)
    one = np.where(real, c.choose(p, 1)[0][:, 0], -1)
    rest = p * (1 - c.one_hot(one, E))
    two = np.where(real, c.choose(rest, 1)[0][:, 0], -1)
    ids = np.stack([one, two], axis=1)
    loss = E * E * (c.one_hot(one, E).mean(axis=0) * (p * real[:, None]).mean(axis=0)).mean()
    weights = np.stack([c.take(p, ids[:, :1])[:, 0], c.take(rest, ids[:, 1:])[:, 0]], axis=1)
    weights = weights / (weights.sum(axis=1, keepdims=True) + 1e-9)
    policy, threshold = case["second_policy"], case.get("second_threshold", 0.2)
    if policy == "none":
        ids[:, 1] = -1
    elif policy == "threshold":
        ids[:, 1] = np.where(c.below(threshold, weights[:, 1]), ids[:, 1], -1)
    elif policy == "random":
        u = c.second_uniforms(case["noise_seed"], T, E, first)
        ids[:, 1] = np.where(c.below(u, weights[:, 1] / max(threshold, 1e-9)), ids[:, 1], -1)
    C = capacity(case, T, E)
    slots = c.claim(ids, E, C, c.choice_then_token(T, 2))
    return {"ids": ids, "slots": slots, "weights": weights, "capacity": C, "auxiliary_loss": loss}


RULES = {"switch": switch, "mesh-top2": top2, "mesh-ntlb": ntlb, "mesh-switch-max": switch_max}


def case_of(name, index, seed):
    T, E, temperament = c.sizes(index)
    K = {"mesh-top2": 2, "mesh-ntlb": min(4, E)}.get(name, 1)
    case = {"seed": seed, "T": T, "E": E, "K": K, "temperament": temperament}
    case["capacity_factor"] = (1.25, 2.0, 1.0, 0.5, 4.0)[index % 5]
    if index % 4:
        case["min_capacity"] = index % 4
    if index % 3 == 1:
        case["mask_seed"] = seed + 1
    if index % 6 == 2 and T % 2 == 0 and T >= 8:
        case["group_size"] = T // 2
    if name in ("switch", "mesh-switch-max") and index % 6 == 4:
        case["temperature"] = (1.0, 0.5)[index // 6 % 2]
        case["noise_seed"] = seed + 2
    if name == "mesh-top2":
        case["second_policy"] = ("random", "all", "threshold", "random", "none")[index // 5 % 5]
        if case["second_policy"] in ("random", "threshold"):
            case["second_threshold"] = (0.2, 0.45)[index % 2]
        if case["second_policy"] == "random":
            case["noise_seed"] = seed + 2
    return case


def result_of(name, case):
    z = c.logits(case["seed"], case["T"], case["E"], case["temperament"])
    real = c.mask(case["mask_seed"], case["T"]) if "mask_seed" in case else np.ones(case["T"], bool)
    if not real.any():
        raise c.TooClose
    result = c.in_groups(case, z, real, lambda *part: RULES[name](case, *part))
    result["z_loss"] = z_loss(z, real)
    if mesh_tensorflow:
        check(name, case, z, real, result)
    return result


# The original -------------------------------------------------------------------------------------------------------

try:
    import mesh_tensorflow
    import tensorflow.compat.v1 as tf
    from mesh_tensorflow.transformer import moe
except ImportError:
    mesh_tensorflow = None


def run_original(name, case, z, real):
    """Returns the combine tensor [groups, S, E, C] and the loss with a z-loss of coefficient 0 and 1."""
    mtf = mesh_tensorflow
    T, E = z.shape
    S = case.get("group_size", T)
    G = T // S
    seed = case.get("noise_seed", 0)
    u = c.second_uniforms(seed, T, E)
    policy = "sample" if "temperature" in case else "argmax"
    outputs = []
    for z_coefficient in (None, 1.0):
        graph = mtf.Graph()
        with tf.Graph().as_default():
            mesh = mtf.Mesh(graph, "mesh")
            dims = [mtf.Dimension("outer_batch", 1), mtf.Dimension("batch", G), mtf.Dimension("group", S)]
            inputs = mtf.import_tf_tensor(mesh, z.reshape(1, G, S, E), dims + [mtf.Dimension("input", E)])
            importance = mtf.import_tf_tensor(mesh, real.reshape(1, G, S).astype(np.float32), dims)
            draws = mtf.import_tf_tensor(mesh, u.reshape(1, G, S), dims)
            first_draws = mtf.import_tf_tensor(
                mesh, c.uniforms(seed, T, E, 0).reshape(1, G, S, E), dims + [mtf.Dimension("experts", E)])
            settings = moe.HParams(
                moe_switch_policy_train=policy, moe_switch_policy_eval=policy,
                moe_switch_temperature=case.get("temperature", 1.0),
                moe_switch_dropout=0.0, moe_switch_jitter=0.0, moe_z_loss=z_coefficient, moe_word_embed_mode=None,
                moe_use_second_place_expert_prob=None, moe_use_second_place_loss=False, moe_ntlb_top_k=case["K"],
                moe_second_policy_train=case.get("second_policy"), moe_second_policy_eval=case.get("second_policy"),
                moe_second_threshold_train=case.get("second_threshold", 0.2),
                moe_second_threshold_eval=case.get("second_threshold", 0.2),
            )
            C = capacity(case, S, E)
            gate = {"switch": moe._switch_gating, "mesh-top2": moe._top_2_gating, "mesh-ntlb": moe._ntlb_gating,
                    "mesh-switch-max": moe._switch_max_gating}[name]
            kept = mtf.layers.dense, mtf.random_uniform, mtf.ops.random_uniform
            identity = mtf.import_tf_tensor(
                mesh, np.eye(E, dtype=np.float32), [mtf.Dimension("input", E), mtf.Dimension("experts", E)])
            try:
                mtf.layers.dense = lambda x, *_, **__: mtf.einsum(
                    [x, identity], output_shape=dims + [mtf.Dimension("experts", E)])
                mtf.random_uniform = lambda *_, **__: draws
                mtf.ops.random_uniform = lambda *_, **__: first_draws
                _, combine, loss = gate(
                    inputs, None, mtf.Dimension("experts", E), mtf.Dimension("capacity", C), settings,
                    train=True, variable_dtype=None, importance=importance, num_microbatches=1)
            finally:
                mtf.layers.dense, mtf.random_uniform, mtf.ops.random_uniform = kept
            lowering = mtf.Lowering(graph, {mesh: mtf.placement_mesh_impl.PlacementMeshImpl("", [], [""])})
            combine, loss = lowering.export_to_tf_tensor(combine), lowering.export_to_tf_tensor(loss)
            with tf.Session() as session:
                session.run(lowering.copy_masters_to_slices())
                outputs.append(session.run([combine, loss]))
    (combine, plain), (_, with_z) = outputs
    return combine, float(plain), float(with_z - plain)


def check(name, case, z, real, result):
    combine, loss, z_value = run_original(name, case, z, real)
    T, E = z.shape
    S = case.get("group_size", T)
    C = result["capacity"]
    built = np.zeros((T, E, C))
    for t, k in np.argwhere(result["slots"] >= 0):
        built[t, result["ids"][t, k], result["slots"][t, k]] += result["weights"][t, k]
    combine = combine.reshape(T, -1) if name != "mesh-switch-max" else combine
    if name == "mesh-switch-max":  # its combine tensor is [1, G, E, C, S]
        combine = combine.reshape(T // S, E, C, S).transpose(0, 3, 1, 2)
    assert np.allclose(built, combine.reshape(T, E, C), atol=1e-6), (name, case)
    assert np.isclose(loss, result["auxiliary_loss"], rtol=2e-6), (name, case, loss, result["auxiliary_loss"])
    assert np.isclose(z_value, result["z_loss"], rtol=2e-5, atol=1e-5), (name, case, z_value, result["z_loss"])


if __name__ == "__main__":
    print("compared with the original" if mesh_tensorflow else "without the original")
    for name in sys.argv[1:] or RULES:
        c.make(name, 60, lambda index, seed: case_of(name, index, seed), lambda case: result_of(name, case))
