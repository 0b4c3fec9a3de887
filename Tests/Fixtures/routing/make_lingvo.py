"""Golden files of lingvo's top-2 gate: gshard-top2, gshard-top2-renormalised, glam.

The numbers are a re-statement in float64 of `Top2GatingOnLogits` (lingvo, core/gshard_layers.py, commit 01ededf). Where
JAX and praxis 1.4.0 are installed, every case is also run through praxis's form of it,
`gshard_utils.top2_gating_on_logits`, and must agree; praxis's own capacity differs for very small groups, so it is
given lingvo's number. GLaM's settings are those of praxis's layers/glam.py: the second expert always, normalised before
dropping, factor 2.
"""

import sys
from unittest import mock

import numpy as np

import cases as c


def capacity(case, T, E):
    rows = int((T * case["capacity_factor"]) / E) or 4
    return -(-rows // 4) * 4


def top2(case, is_legacy, z, real, first):
    T, E = z.shape
    p = c.softmax(z)
    one = np.where(real, c.choose(p, 1)[0][:, 0], -1)
    rest = p * (1 - c.one_hot(one, E))
    policy = case["second_policy"]
    if policy == "sampling":
        noisy = np.where(c.one_hot(one, E) > 0, np.float32(-0.7) * np.finfo(np.float32).max, z)
        two = c.noisy_argmax(noisy + c.gumbels(case["noise_seed"], T, E, 1, first))
    else:
        two = c.choose(rest, 1)[0][:, 0]
    two = np.where(real, two, -1)
    g = np.stack([c.take(p, one[:, None])[:, 0], c.take(rest, two[:, None])[:, 0]], axis=1)
    if is_legacy:
        g = g / (g.sum(axis=1, keepdims=True) + 1e-9)
    divisor = 1 if is_legacy else real.mean() + 1e-6
    loss = E * E * (c.one_hot(one, E).mean(axis=0) / divisor * ((p * real[:, None]).mean(axis=0) / divisor)).mean()
    if policy == "random":
        u = c.second_uniforms(case["noise_seed"], T, E, first)
        two = np.where(c.below(u, g[:, 1] / max(case["second_threshold"], 1e-9)), two, -1)
    ids = np.stack([one, two], axis=1)
    C = capacity(case, T, E)
    slots = c.claim(ids, E, C, c.choice_then_token(T, 2))
    if not is_legacy:
        g = np.where(slots >= 0, g, 0)
        total = g.sum(axis=1, keepdims=True)
        g = g / np.where(total > 0, total, 1)
    return {"ids": ids, "slots": slots, "weights": g, "capacity": C, "auxiliary_loss": loss}


def case_of(name, index, seed):
    T, E, temperament = c.sizes(index)
    case = {"seed": seed, "T": T, "E": E, "K": 2, "temperament": temperament}
    case["capacity_factor"] = (2.0, 1.0, 0.5, 1.25, 3.0)[index % 5]
    case["second_policy"] = "all" if name == "glam" else ("all", "random", "sampling", "random")[index // 2 % 4]
    if case["second_policy"] == "random":
        case["second_threshold"] = (0.5, 0.2, 0.0)[index // 8 % 3]
    if case["second_policy"] != "all":
        case["noise_seed"] = seed + 2
    if index % 3 == 1:
        case["mask_seed"] = seed + 1
    if index % 6 == 2 and T % 2 == 0:
        case["group_size"] = T // 2
    return case


def result_of(name, case):
    z = c.logits(case["seed"], case["T"], case["E"], case["temperament"])
    real = c.mask(case["mask_seed"], case["T"]) if "mask_seed" in case else np.ones(case["T"], bool)
    is_legacy = name != "gshard-top2-renormalised"
    result = c.in_groups(case, z, real, lambda *part: top2(case, is_legacy, *part))
    if gshard_utils:
        check(name, case, z, real, result, is_legacy)
    return result


# The original -------------------------------------------------------------------------------------------------------

try:
    import jax
    import jax.numpy as jnp
    from praxis import gshard_utils
except ImportError:
    gshard_utils = None


def check(name, case, z, real, result, is_legacy):
    T, E = z.shape
    S, C = case.get("group_size", T), result["capacity"]
    draws = np.zeros((T, E), np.float32)
    if case["second_policy"] == "sampling":
        draws = c.uniforms(case["noise_seed"], T, E, 1)
    elif case["second_policy"] == "random":
        draws = c.second_uniforms(case["noise_seed"], T, E)
    uniform = lambda _, shape, dtype: jnp.array(draws).reshape(shape)
    with mock.patch("jax.random.uniform", uniform):
        loss, combine, _, _ = gshard_utils.top2_gating_on_logits(
            jnp.array(1.0 - real, jnp.float32).reshape(-1, S), jnp.array(z).reshape(-1, S, E), E, C, jnp.float32,
            prng_key=jax.random.PRNGKey(0), second_expert_policy=case["second_policy"],
            second_expert_threshold=case.get("second_threshold", 0.0), legacy_mtf_behavior=is_legacy)
    built = np.zeros((T, E, C))
    for t, k in np.argwhere(result["slots"] >= 0):
        built[t, result["ids"][t, k], result["slots"][t, k]] += result["weights"][t, k]
    assert np.allclose(built, np.asarray(combine).reshape(T, E, C), atol=1e-6), (name, case)
    assert np.isclose(float(loss), result["auxiliary_loss"], rtol=2e-6), (name, case)


NAMES = ("gshard-top2", "gshard-top2-renormalised", "glam")

if __name__ == "__main__":
    print("compared with praxis" if gshard_utils else "without praxis")
    for name in sys.argv[1:] or NAMES:
        c.make(name, 60, lambda index, seed: case_of(name, index, seed), lambda case: result_of(name, case))
