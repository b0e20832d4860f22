"""Formulas with a loss of their own: see `formulas.py`."""

import numpy as np

from tests.algos.objectives.formulas import (
    answer_mean,
    answer_sum,
    fixed_mean,
    grpo_loss,
    log_rho,
    log_to_ref,
    pi,
    ppo,
    standard,
    token_mean,
)


def mean_over_pairs(c, f):
    """Average over ordered pairs of different answers to a prompt."""
    return np.mean([f(k, i, j) for k, i in c.each() for j in range(c.G) if j != i])


# diversity


def lp_reg(c, p, h):
    A, noise = standard(c), 0.2
    seen = np.concatenate([pi(c, h, k, i) for k, i in c.each()])
    limit = np.quantile(seen, 0.5)

    def penalty(k, i):
        out = np.zeros(c.L[k, i])
        for t in range(c.L[k, i]):
            token = h.log_prob[k, i, t]
            if token <= limit and token > np.log(noise) and A[k, i] < 0:
                kept = np.exp(h.log_probs[k, i, t]) > noise
                proxy = np.exp(h.log_probs[k, i, t][kept])
                proxy /= proxy.sum()
                out[t] = (proxy * (np.log(proxy) - p.log_probs[k, i, t][kept])).sum()
        return out

    return grpo_loss(c, p, A, 0.0) + token_mean(c, penalty)


def spread(p, k, i, c):
    log_probs = p.log_probs[k, i, : c.L[k, i]]
    return -(np.exp(log_probs) * log_probs).sum(-1)


def aepo(c, p, h):
    temperature = 1.2 if token_mean(c, lambda k, i: spread(h, k, i, c)) < 0.5 else 0.8
    gain = 0.0
    for k in range(c.P):
        right = [i for i in range(c.G) if c.r[k, i] == 1]
        weight = []
        for i in right:
            scaled = h.log_probs[k, i, : c.L[k, i]] / temperature
            tempered = pi(c, h, k, i) / temperature - np.log(np.exp(scaled).sum(-1))
            weight.append(np.exp(tempered.sum() - c.old_log_prob[k, i, : c.L[k, i]].sum()))
        for i, w in zip(right, weight, strict=True):
            gain += w / sum(weight) * pi(c, p, k, i).mean() / c.P
    return grpo_loss(c, p, standard(c), 0.0) - 0.1 * gain


def epo(c, p, h):
    past = float(c.state.total) / float(c.state.count)

    def penalty(k, i):
        H = spread(p, k, i, c)
        return np.where(np.abs(H / past - 1) > 0.5, 0.1, 0.0)

    bonus = answer_mean(c, lambda k, i: spread(p, k, i, c)) - answer_mean(c, penalty)
    return grpo_loss(c, p, standard(c), 0.0) - 1e-3 * bonus


def dph(c, p, divergence):
    A, f = standard(c), ppo(c, p, standard(c))

    def term(k, i):
        if c.r[k].mean() < 1:
            return -f(k, i)
        n = c.L[k, i]
        return 0.1 * divergence(np.exp(c.ref_log_probs[k, i, :n]), np.exp(p.log_probs[k, i, :n]))

    assert len(A) == c.P
    return answer_mean(c, term)


def dph_rl(c, p, h):
    return dph(c, p, lambda ref, new: (ref * np.log(ref / new)).sum(-1))


def dph_rl_js(c, p, h):
    def js(ref, new):
        m = (ref + new) / 2
        return ((ref * np.log(ref / m)).sum(-1) + (new * np.log(new / m)).sum(-1)) / 2

    return dph(c, p, js)


# discriminative


def nft(c, p, h):
    def term(k, i):
        mean = np.clip(c.r[k].mean(), 0.02, 0.98)
        weight, R = np.sqrt((1 - mean) / mean), np.exp(log_rho(c, p, k, i))
        if c.r[k, i] == 1:
            return weight * np.log(R)
        negative = (1 - mean * R) / (1 - mean)
        still = (1 - mean * np.exp(log_rho(c, h, k, i))) / (1 - mean)
        return weight * np.log(np.maximum(still, 1.0) + negative - still)

    return -token_mean(c, term)


def disco_loss(c, p, h, score, tau, share):
    gain = 0.0
    for k in range(c.P):
        right = [i for i in range(c.G) if c.r[k, i] == 1]
        wrong = [i for i in range(c.G) if c.r[k, i] == 0]
        if right and wrong:
            soft_max = tau * np.log(sum(np.exp(score(k, i) / tau) for i in wrong))
            gain += share(k, right) @ [score(k, i) - soft_max for i in right]
    kl = [
        token_mean(c, lambda k, i, q=q: np.exp(log_rho(c, q, k, i)) - 1 - log_rho(c, q, k, i))
        for q in (p, h)
    ]
    return -gain / c.P + 1e3 * max(kl[1] - 1e-4, 0) * kl[0]


def equal(k, right):
    return np.ones(len(right)) / len(right)


def disco(c, p, h):
    return disco_loss(c, p, h, lambda k, i: pi(c, p, k, i).mean(), 10, equal)


def disco_ratio(c, p, h):
    return disco_loss(c, p, h, lambda k, i: np.exp(log_rho(c, p, k, i)).mean(), 1, equal)


def drpo(c, p, h):
    def short(k, right):
        w = np.array([np.exp((1 - c.L[k, i] / c.T) / 0.1) for i in right])
        return w / w.sum()

    return disco_loss(c, p, h, lambda k, i: pi(c, p, k, i).mean(), 10, short)


# pairs, inference


def rebel(c, p, h):
    d = lambda k, i: log_rho(c, p, k, i).sum()  # noqa: E731
    return mean_over_pairs(c, lambda k, i, j: (d(k, i) - d(k, j) - c.r[k, i] + c.r[k, j]) ** 2)


def copg(c, p, h):
    R = lambda k, i: c.r[k, i] - 0.1 * log_to_ref(c, p, k, i).sum()  # noqa: E731
    return mean_over_pairs(c, lambda k, i, j: (R(k, i) - R(k, j)) ** 2 / 0.2)


def rpo(c, p, h):
    total = 0.0
    for k in range(c.P):
        pairs = [(i, j) for i in range(c.G) for j in range(c.G) if c.r[k, i] > c.r[k, j]]
        for i, j in pairs:
            margin = 0.01 * (log_to_ref(c, p, k, i).sum() - log_to_ref(c, p, k, j).sum())
            total += (np.log(1 + np.exp(-margin)) - 0.005 * pi(c, p, k, i).mean()) / len(pairs)
    return total / c.P


def old_to_ref(c, k, i):
    n = c.L[k, i]
    return (c.old_log_prob[k, i, :n] - c.ref_log_prob[k, i, :n]).sum()


def reverse_kl(c, p, h):
    A = np.array([[c.r[k, i] - 0.1 * old_to_ref(c, k, i) for i in range(c.G)] for k in range(c.P)])
    return -answer_sum(c, ppo(c, p, A - A.mean(1, keepdims=True)))


def gdc(c, p, h):
    w = np.array(
        [[np.exp(c.r[k, i] / 0.1 - old_to_ref(c, k, i)) for i in range(c.G)] for k in range(c.P)]
    )
    A = w / w.mean(1, keepdims=True) - 1
    return -answer_sum(c, lambda k, i: A[k, i] * pi(c, p, k, i))


def astar_po(c, p, h):
    total = 0.0
    for k in range(c.P):
        w = np.array([np.exp(-old_to_ref(c, k, i)) for i in range(c.G)])
        value = 0.5 * np.log((w / w.sum() * np.exp(c.r[k] / 0.5)).sum())
        for i in range(c.G):
            total += (1e-3 * log_to_ref(c, p, k, i).sum() - (c.r[k, i] - value)) ** 2
    return total / (c.P * c.G)


# demonstrations


def shown(c, p, k):
    places = range(int(c.demonstration_mask[k].sum()))
    return np.array([p.demonstration_log_probs[k, t, int(c.demonstration[k, t])] for t in places])


def sft(c, p, h):
    return -np.mean([shown(c, p, k).mean() for k in range(c.P)])


def dft(c, p, h):
    return -np.mean([(np.exp(shown(c, h, k)) * shown(c, p, k)).mean() for k in range(c.P)])


def otr(c, p, h):
    total = 0.0
    for k in range(c.P):
        n = int(c.demonstration_mask[k].sum())
        for t in range(n):
            q = np.exp(h.demonstration_log_probs[k, t] / 1.3)
            R = np.full(len(q), -0.1)
            R[int(c.demonstration[k, t])] = 1
            total += (q / q.sum() * R * p.demonstration_log_probs[k, t]).sum() / n
    return -total / c.P


def hpt_loss(c, p, imitated, weight):
    f = ppo(c, p, c.r - c.r.mean(1, keepdims=True))
    rl = fixed_mean(c, lambda k, i: 0.0 if imitated[k] else f(k, i))
    return -rl - weight * np.mean([imitated[k] * shown(c, p, k).mean() for k in range(c.P)])


def hpt(c, p, h):
    return hpt_loss(c, p, c.r.mean(1) <= 0, 1.0)


def red_weight(c, h):
    A, imitated = c.r - c.r.mean(1, keepdims=True), c.r.mean(1) <= 0.25
    online, offline = [], []
    for k in range(c.P):
        for t, log_pi in enumerate(shown(c, h, k) if imitated[k] else ()):
            log_probs = h.demonstration_log_probs[k, t]
            offline.append(-log_pi + (np.exp(log_probs) * log_probs).sum())
        for i in () if imitated[k] else range(c.G):
            online += list(A[k, i] * (-pi(c, h, k, i) - spread(h, k, i, c)))
    online, offline = np.mean(online), np.mean(offline)
    return min(abs(online) / abs(offline), 1) if online * offline < 0 else 0


def red(c, p, h):
    return hpt_loss(c, p, c.r.mean(1) <= 0.25, red_weight(c, h))


def relift(c, p, h):
    studied = [bool(c.state.studied[int(q)]) for q in c.prompt]
    f = ppo(c, p, standard(c))
    rl = answer_mean(c, lambda k, i: 0.0 if studied[k] else f(k, i))
    gain = 0.0
    for k in range(c.P):
        if studied[k]:
            log_probs = p.demonstration_log_probs[k, : int(c.demonstration_mask[k].sum())]
            H = -(np.exp(log_probs) * log_probs).sum(-1)
            gain += (shown(c, p, k).mean() + 1e-3 * H.mean()) / c.P
    return -rl - gain


OF_FAMILY = (
    lp_reg, aepo, epo, dph_rl, dph_rl_js, nft, disco, disco_ratio, drpo, rebel, copg, rpo,
    reverse_kl, gdc, astar_po, sft, dft, otr, hpt, red, relift,
)  # fmt: skip
LOSSES = {f.__name__: f for f in OF_FAMILY}
