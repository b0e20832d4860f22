"""Formulas that differ from GRPO in the advantage alone: see `formulas.py`."""

import numpy as np

from tests.algos.objectives.formulas import EPS, grpo_loss, standard, z

# shaping


def plain(loss):
    """The GRPO loss without its KL term, of an advantage."""
    return lambda c, p, h: grpo_loss(c, p, loss(c), kl=0.0)


def gdpo(c):
    rewards = [1.0 * c.r, 0.5 * c.other_rewards[..., 0], 0.5 * c.other_rewards[..., 1]]
    scales = [1.0, 0.5, 0.5]
    total = sum(
        s * np.array([z(r / s) for r in group]) for s, group in zip(scales, rewards, strict=True)
    )
    return z(total)


def adora(c):
    A = standard(c)
    for k in range(c.P):
        right, wrong = c.L[k][c.r[k] == 1], c.L[k][c.r[k] == 0]
        if not (len(right) and right.max() > (wrong.mean() if len(wrong) else 0)):
            A[k] *= 0.1
    return A


def capo(c):
    return standard(c)[..., None] - 0.5 * (c.step_reward == 0)


def igpo(c):
    A = np.zeros((c.P, c.G, c.T))
    for k in range(c.P):
        gains = [np.diff(c.belief[k, i])[: c.L[k, i]] for i in range(c.G)]
        for i in range(c.G):
            gains[i][-1] = c.r[k, i]
        seen = np.concatenate(gains)
        for i in range(c.G):
            scaled = (gains[i] - seen.mean()) / (seen.std(ddof=1) + EPS)
            A[k, i, : c.L[k, i]] = scaled[::-1].cumsum()[::-1]
    return A


def hbpo(c):
    budget = np.array([0.5, 0.5, 1.0, 1.0])
    shaped = c.r * (1 - 0.5 * np.abs(c.L / c.T - budget))
    return np.array([np.concatenate([z(r[:2]), z(r[2:])]) + z(r) for r in shaped])


def rank_grpo(c):
    A = np.zeros((c.P, c.G, c.T))
    for k in range(c.P):
        for t in range(c.T):
            there = [i for i in range(c.G) if c.L[k, i] > t]
            gain = np.array(
                [
                    sum(c.step_reward[k, i, s] / np.log2(2 + s - t) for s in range(t, c.L[k, i]))
                    for i in there
                ]
            )
            if len(there) > 1:
                A[k, there, t] = z(gain)
    return A


# labels, hints


def shares(c):
    return np.array([[np.mean(c.answer[k] == a) for a in c.answer[k]] for k in range(c.P)])


def answer_entropy(c):
    found = []
    for k in range(c.P):
        _, count = np.unique(c.answer[k], return_counts=True)
        q = count / c.G
        found.append(-(q * np.log(q)).sum())
    return np.array(found)


def empo(c):
    used = answer_entropy(c) <= 0.999 * np.log(c.G)
    return np.array([z(s) * u for s, u in zip(shares(c), used, strict=True)])


def copo(c):
    w = (1 / (1 + np.exp(-5 * (answer_entropy(c) - 0.5))))[:, None]
    return w * standard(c) + (1 - w) * z(c.r.mean(1))[:, None]


def pope(c):
    return np.array([np.concatenate([z(r[:2]), z(r[2:])]) for r in c.r])


# diversity


def unlikeliness(c):
    A = []
    for k, r in enumerate(c.r):
        likelihood = [c.old_log_prob[k, i, : c.L[k, i]].sum() for i in range(c.G)]
        rank = [sum(other < own for other in likelihood) for own in likelihood]
        A.append(z(r * (1 - 0.25 * np.array(rank) / c.G)))
    return A


OF_FAMILY = (gdpo, adora, capo, igpo, hbpo, rank_grpo, empo, copo, pope, unlikeliness)
ADVANTAGES = {f.__name__: plain(f) for f in OF_FAMILY}
