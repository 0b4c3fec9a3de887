"""NumPy references of the routers in which experts choose, a table chooses, or a plan over the whole batch chooses, and
of the losses. Everything is float64 over float32 logits unless a comment says otherwise.

Where the original leaves the order of equal values open, the rule is: the larger value first, then the smaller index.
Functions that decide also return whether a difference so small decided (below CLOSE, relative) that implementations of
the same formula can round it away: such cases are not used."""

import math

import numpy as np

from cases import CLOSE

f32 = np.float32


def softmax(z, axis=-1):
    z = np.asarray(z, np.float64)
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_sum_exp(z):
    z = np.asarray(z, np.float64)
    top = z.max(-1)
    return top + np.log(np.exp(z - top[..., None]).sum(-1))


def descending(values):
    """The order of `values`, larger first, equal ones by index."""
    return np.argsort(-values, kind="stable")


def top(values, k):
    """The k largest of each row, larger first, equal ones by index."""
    return np.argsort(-values, 1, kind="stable")[:, :k]


def near(values, same):
    """Whether neighbours in `values` (sorted) differ by too little, except where `same(i)` says that neighbours i and
    i+1 are equal in every implementation; zeros are."""
    for i in range(len(values) - 1):
        a, b = abs(values[i]), abs(values[i] - values[i + 1])
        if b <= CLOSE * a and not (a == 0 and b == 0) and not same(i):
            return True
    return False


def half_even(x):
    return int(round(x))


# -- experts choose -------------------------------------------------------------------------------------------------


def by_token(chosen, weights, T, E):
    """Turns the tokens of every expert into the experts of every token, best weight first."""
    ids, slots = np.full((T, E), -1), np.full((T, E), -1)
    out = np.zeros((T, E))
    taken = [[] for _ in range(T)]
    for e, tokens in enumerate(chosen):
        for slot, t in enumerate(tokens):
            taken[t].append((-f32(weights[t, e]), e, slot))
    for t in range(T):
        taken[t].sort()
        for j, (minus, e, slot) in enumerate(taken[t]):
            ids[t, j], slots[t, j], out[t, j] = e, slot, -minus
    return ids, slots, out, taken


def expert_choice(z, mask, capacity):
    """Zhou et al. 2022 as flaxformer has it (and vmoe without a mask): every expert takes the tokens that give it the
    largest share of their softmax over experts."""
    T, E = z.shape
    p = f32(softmax(z)) * f32(mask)[:, None]
    shifted = np.maximum(z - z.max(1, keepdims=True), -110)  # float32 has no smaller exponential
    chosen, unclear = [], False
    for e in range(E):
        order = descending(p[:, e])
        chosen.append(order[:capacity])
        column = np.float64(p[order[: capacity + 1], e])
        unclear |= near(column, lambda i: (shifted[order[i]] == shifted[order[i + 1]]).all())
    ids, slots, weights, taken = by_token(chosen, p, T, E)
    for t in range(T):
        w = [-float(x[0]) for x in taken[t]]
        unclear |= near(w, lambda i: z[t, taken[t][i][1]] == z[t, taken[t][i + 1][1]])
    return ids, slots, weights, unclear


def mesh_expert_choice(z, mask, capacity):
    """mesh-tensorflow's form: softmax over the tokens; weights shared among the experts that took the token."""
    T, E = z.shape
    z = f32(z) + f32(-1e9) * f32(1 - mask)[:, None]
    q = softmax(z, 0)
    chosen, unclear = [], False
    for e in range(E):
        order = descending(f32(q[:, e]))
        chosen.append(order[:capacity])
        unclear |= near(np.float64(f32(q[order[: capacity + 1], e])), lambda i: z[order[i], e] == z[order[i + 1], e])
    count = np.zeros(T)
    for tokens in chosen:
        count[tokens] += 1
    ids, slots, weights, taken = by_token(chosen, q / np.maximum(count, 1)[:, None], T, E)
    for t in range(T):
        w = [-float(x[0]) for x in taken[t]]
        unclear |= near(w, lambda i: (z[:, taken[t][i][1]] == z[:, taken[t][i + 1][1]]).all())
    return ids, slots, weights, unclear


def mesh_group_loss(z, mask):
    """The loss of one group: n times the sum of squares of the tokens' mean share."""
    q = softmax(np.float64(z) - 1e9 * (1 - mask)[:, None], 0)
    return mask.sum() * ((q.mean(1) * mask) ** 2).sum()


# -- a table chooses ------------------------------------------------------------------------------------------------


def in_order(ids, mask, capacity, E):
    """Slots in token order, choice by choice of a token; −1 beyond the capacity (−1: no limit)."""
    used, slots = np.zeros(E, int), np.full(ids.shape, -1)
    for t, row in enumerate(ids):
        for j, e in enumerate(row):
            if mask[t] and (capacity < 0 or used[e] < capacity):
                slots[t, j] = used[e]
                used[e] += 1
    return slots


def square_root_of_softplus(z):
    return np.sqrt(np.logaddexp(0, np.float64(z)))


def sigmoid(z):
    return 1 / (1 + np.exp(-np.float64(z)))


# -- a plan chooses -------------------------------------------------------------------------------------------------


def sinkhorn(z, limit, dtype=np.float64, tolerance=1e-4, epsilon=1e-8):
    """Megatron's iteration. Returns the plan and the number of rounds, which is `limit` where it did not end by itself.
    The original has no limit."""
    K = np.exp(dtype(z))
    T, E = K.shape
    rows, columns, old, rounds, error = np.ones(T, dtype), np.ones(E, dtype), np.ones(E, dtype), 0, 1e9
    while error > tolerance and rounds < limit:
        rows = dtype(1 / T) / ((columns * K).sum(1) + dtype(epsilon))
        columns = dtype(1 / E) / ((rows[:, None] * K).sum(0) + dtype(epsilon))
        error, old, rounds = np.abs(old - columns).mean(), columns, rounds + 1
    return columns * K * rows[:, None], rounds


def auction(z, backwards=False, limit=10000):
    """fairseq's balanced assignment in float32: every expert gets T/E tokens. Returns the tokens of every expert, best
    first, and the number of rounds. `backwards` turns the order of equal values round, to see whether it matters."""
    z = f32(z)
    T, E = z.shape
    share = T // E
    worth = z.T.copy()
    step = max((z.max() - z.min()) / f32(50), f32(1e-4))
    value, cost, best, held, rounds = worth.copy(), np.zeros(T, f32), worth.max(), None, 0
    while True:
        if backwards:
            order = (T - 1 - np.argsort(-value[:, ::-1], 1, kind="stable"))[:, : share + 1]
        else:
            order = top(value, share + 1)
        sorted_value = np.take_along_axis(value, order, 1)
        bids = np.zeros((E, T), f32)
        np.put_along_axis(bids, order[:, :share], sorted_value[:, :share] - sorted_value[:, share:] + step, 1)
        if 0 < rounds < 100:
            bids[held] = step
        high = bids.max(0)
        winner = E - 1 - bids[::-1].argmax(0) if backwards else bids.argmax(0)
        if (high > 0).all():
            return order[:, :share], rounds
        if rounds == limit:
            raise ValueError("the auction does not end")
        cost = cost + high
        value = worth - cost
        tokens = np.nonzero(high > 0)[0]
        held = (winner[tokens], tokens)
        value[held] = best if rounds < 100 else worth[held]
        rounds += 1


def base(z, mask, backwards=False):
    """The owner of every token, −1 for pads. Where the real tokens do not divide among the experts, virtual tokens
    that no expert wants fill up (ours: the original never ends then)."""
    T, E = z.shape
    real = np.nonzero(mask)[0]
    share = -(-len(real) // E)
    owner = np.full(T, -1)
    if E == 1:
        owner[real] = 0
        return owner, 0
    rows = f32(z[real])
    fill = np.full((share * E - len(real), E), rows.min(), f32)
    owned, rounds = auction(np.concatenate([rows, fill]), backwards)
    for e in range(E):
        for t in owned[e]:
            if t < len(real):
                owner[real[t]] = e
    return owner, rounds


def soft(z, mask):
    """Dispatch (softmax over real tokens) and combine (softmax over slots) of Soft MoE; z is [T, E·S]."""
    masked = np.where(mask[:, None] > 0, np.float64(z), -np.inf)
    return softmax(masked, 0), softmax(z, 1) * mask[:, None]


def soft_logits(x, phi, scale):
    """x [T, H], phi [H, E·S]: the scaled cosine of every token and slot, in vmoe's rounding of the norm."""
    x, phi = np.float64(x), np.float64(phi)
    x = x / np.sqrt((x * x).sum(1, keepdims=True) + 1e-6)
    phi = phi / np.sqrt((phi * phi).sum(0, keepdims=True) + 1e-6)
    return scale * (x @ phi)


def quantile(z, beta, k):
    """Megatron's quantile balancing in float32: the choices, and the quantile of every expert in this batch."""
    T, E = z.shape
    biased = f32(z) - f32(beta)
    order = top(biased, k + 1)
    threshold = np.take_along_axis(biased, order[:, k:], 1)
    ranked = -np.sort(-(f32(z) - threshold), 0)
    return order[:, :k], ranked[T * k // E]


# -- losses ---------------------------------------------------------------------------------------------------------
# Every loss takes the logits twice: `s` decides (choices, counts, who is in or out), and z gives the values. A gradient
# flows through z only.


def one_hot(ids, E):
    return np.eye(E)[ids]


def phi(x):
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def squared_variation(u, unbiased, epsilon):
    mean = u.mean()
    return ((u - mean) ** 2).sum() / (len(u) - 1 if unbiased else len(u)) / (mean**2 + epsilon)


def mesh_first_place(s, z, m):
    E = z.shape[1]
    first = one_hot(softmax(s).argmax(1), E) * m[:, None]
    return E * (first.mean(0) * (softmax(z) * m[:, None]).mean(0)).sum()


def mesh_second_place(s, z, m):
    """The whole loss of mesh's top-2 gate with the second-place term."""
    E = z.shape[1]
    first = one_hot(softmax(s).argmax(1), E) * m[:, None]
    second = one_hot((softmax(s) * (1 - first)).argmax(1), E) * m[:, None]
    rest = softmax(z) * (1 - first)
    share = rest / (rest.sum(1, keepdims=True) + 1e-9)
    return mesh_first_place(s, z, m) + 0.5 * E * (second.mean(0) * share.mean(0)).sum()


def flaxformer(s, z, m, k):
    E = z.shape[1]
    f = one_hot(top(softmax(s), k), E).max(1) * m[:, None]
    return E * (f.mean(0) * (softmax(z) * m[:, None]).mean(0)).sum()


def megablocks(s, z, k):
    """s and z: one table per layer. Without the weight of the loss."""
    T, E = z[0].shape
    total = sum(np.bincount(top(softmax(a), k).ravel(), minlength=E) @ softmax(b).mean(0) for a, b in zip(s, z))
    return E / (len(z) * T * k) * total


def fastmoe_gshard(s, z):
    """One rank: the number of local experts is the number of experts."""
    T, E = z.shape
    return E**2 * (one_hot(s.argmax(1), E).mean(0) * softmax(z).mean(0)).mean()


def fastmoe_switch(s, z, capacity):
    """The survivors of an expert: its first `capacity` tokens (the original's order is that of GPU atomics; the loss
    needs the counts only)."""
    T, E = z.shape
    kept = np.minimum(np.bincount(s.argmax(1), minlength=E), capacity)
    return E * (kept / kept.sum() * (softmax(z).sum(0) / kept.sum())).sum()


def hugging_face(s, z, m, k):
    """s and z: one table per layer, pooled; the mask repeats for every layer."""
    s, z, m = np.concatenate(s), np.concatenate(z), np.concatenate([m] * len(z))
    E = z.shape[1]
    f = (one_hot(top(softmax(s), k), E) * m[:, None, None]).sum(0) / m.sum()
    return E * (f * ((softmax(z) * m[:, None]).sum(0) / m.sum())).sum()


def kth(s, z, k):
    """Of every row of z, the value at the place of the k-th largest of s."""
    return np.take_along_axis(z, top(s, k)[:, k - 1 :], 1)


def tutel(s, z, noise, k, gate_noise):
    """The noise is standard normal; the load compares a probability with a logit, as Tutel has it."""
    E = z.shape[1]
    deviation = gate_noise / E
    p = softmax(z)
    load = phi((p - kth(s + deviation * noise, z + deviation * noise, k)) / deviation).sum(0)
    return 0.5 * (squared_variation(p.sum(0), True, 1e-10) + squared_variation(load, True, 1e-10))


def fastmoe_noisy(s, z, noise, deviation, k):
    T, E = z.shape
    before, after = s + deviation * noise, z + deviation * noise
    order = top(before, k)
    gates = np.zeros((T, E))
    np.put_along_axis(gates, order, softmax(np.take_along_axis(after, order, 1)), 1)
    if k == E:
        load = (gates > 0).sum(0).astype(float)
    else:
        inside = before > kth(before, before, k + 1)
        load = phi((z - np.where(inside, kth(before, after, k + 1), kth(before, after, k))) / deviation).sum(0)
    return squared_variation(gates.sum(0), True, 1e-10) + squared_variation(load, True, 1e-10)


def vmoe_importance(z):
    return squared_variation(softmax(z).sum(0), False, 0)


def vmoe_load(s, z, noise, k, noise_deviation):
    deviation = noise_deviation / z.shape[1]
    threshold = kth(s + deviation * noise, z + deviation * noise, k)
    return squared_variation((1 - phi((threshold - z) / deviation)).mean(0), False, 0)


def deepseek(s, z, m, k, devices, limit, length):
    """The three terms of DeepSeek-V2 without their factors: mean over sequences of `length` tokens. Experts lie on the
    devices in blocks. A mask (ours) leaves pads out."""
    T, E = z.shape
    terms = np.zeros(3)
    for first in range(0, T, length):
        real = [t for t in range(first, first + length) if m[t]]
        n = max(len(real), 1)
        chosen = one_hot(top(softmax(s[real]), k), E).sum(1) if real else np.zeros((0, E))
        P = softmax(z[real]).sum(0) / n if real else np.zeros(E)
        f = E / (k * n) * chosen.sum(0)
        blocks = P.reshape(devices, -1).sum(1)
        sent = (chosen.reshape(len(real), devices, -1).sum(2) > 0).sum(0) * devices / (limit * n)
        terms += [f @ P, f.reshape(devices, -1).mean(1) @ blocks, sent @ blocks]
    return terms / (T // length)


def mutual_information(z, m):
    """ModuleFormer's: minus the mutual information of tokens and experts; masked rows count in the divisor."""
    T = len(z)
    p = softmax(z) * m[:, None]
    log = np.float64(z) - log_sum_exp(z)[:, None]
    mean = p.sum(0) / T
    return -((p * log).sum() / T - (mean * np.log(mean + 1e-8)).sum())


def slope(loss, z, direction, h=1e-5):
    """The derivative of `loss(s, z)` along `direction` with everything that decides held."""
    z = np.float64(z)
    return (loss(z, z + h * direction) - loss(z, z - h * direction)) / (2 * h)
