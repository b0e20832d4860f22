"""Every published formula that is a surrogate, in NumPy: one answer after the other, in float64.

`c` is the batch, `p` the policy that the gradient flows through, `h` a copy of it that is held
still where the formula stops the gradient. Nothing here comes from the library.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np

EPS = 1e-6


class Batch:
    """The answers as float64; `c.L[k, i]` is the length of answer i to prompt k."""

    def __init__(self, answers: Any, state: Any, age: float):
        for name, value in answers._asdict().items():
            setattr(self, name, None if value is None else np.asarray(value, np.float64))
        self.r, self.L = self.reward, self.mask.sum(-1).astype(int)
        self.P, self.G, self.T = self.mask.shape
        self.answer, self.state, self.age = np.asarray(answers.answer), state, age

    def each(self):
        return [(k, i) for k in range(self.P) for i in range(self.G)]


def live(policy: Any) -> SimpleNamespace:
    fields = {k: np.asarray(v, np.float64) for k, v in policy._asdict().items()}
    return SimpleNamespace(**fields)


# how tokens are averaged; f(k, i) gives the values of the answer's tokens


def answer_mean(c, f):
    return np.mean([np.mean(f(k, i)) for k, i in c.each()])


def token_mean(c, f):
    return np.sum([np.sum(f(k, i)) for k, i in c.each()]) / c.L.sum()


def fixed_mean(c, f):
    return np.sum([np.sum(f(k, i)) for k, i in c.each()]) / (c.P * c.G * c.T)


def answer_sum(c, f):
    return np.mean([np.sum(f(k, i)) for k, i in c.each()])


# what an answer's tokens are


def pi(c, p, k, i):
    return p.log_prob[k, i, : c.L[k, i]]


def log_rho(c, p, k, i):
    return pi(c, p, k, i) - c.old_log_prob[k, i, : c.L[k, i]]


def log_to_ref(c, p, k, i):
    return pi(c, p, k, i) - c.ref_log_prob[k, i, : c.L[k, i]]


def k3(c, p, k, i):
    x = -log_to_ref(c, p, k, i)
    return np.exp(x) - x - 1


def of_tokens(c, A, k, i):
    """The advantage of each token, whether A has one by answer or by token."""
    return np.broadcast_to(A[k][i], (c.T,))[: c.L[k, i]]


def clip(rho, A, low, high):
    return np.minimum(rho * A, np.clip(rho, 1 - low, 1 + high) * A)


def ppo(c, p, A, low=0.2, high=0.2):
    return lambda k, i: clip(np.exp(log_rho(c, p, k, i)), of_tokens(c, A, k, i), low, high)


def grpo_loss(c, p, A, kl=0.001):
    return -answer_mean(c, ppo(c, p, A)) + kl * answer_mean(c, lambda k, i: k3(c, p, k, i))


def z(values):
    return (values - values.mean()) / (values.std(ddof=1) + EPS)


def standard(c):
    return np.array([z(r) for r in c.r])


def every_token(c, A):
    return np.concatenate([of_tokens(c, A, k, i) for k, i in c.each()])


# the group


def grpo(c, p, h):
    return grpo_loss(c, p, standard(c))


def drgrpo(c, p, h):
    return -fixed_mean(c, ppo(c, p, [r - r.mean() for r in c.r]))


def lite_ppo(c, p, h):
    A = [(r - r.mean()) / (c.r.std(ddof=1) + EPS) for r in c.r]
    return -token_mean(c, ppo(c, p, A))


def rloo(c, p, h):
    others = [[np.delete(r, i).mean() for i in range(c.G)] for r in c.r]
    return -answer_sum(c, lambda k, i: (c.r[k, i] - others[k][i]) * pi(c, p, k, i))


def reinforce_pp(c, p, h):
    seen = every_token(c, c.r)
    A = (c.r - seen.mean()) / (seen.std(ddof=1) + EPS)
    return -token_mean(c, ppo(c, p, A))


def reinforce_pp_baseline(c, p, h):
    A = c.r - c.r.mean(1, keepdims=True)
    seen = every_token(c, A)
    return -token_mean(c, ppo(c, p, (A - seen.mean()) / (seen.std(ddof=1) + EPS)))


def pass_at_4(c, p, h):
    A = np.zeros((c.P, c.G))
    for k, r in enumerate(c.r):
        order = np.argsort(-r, kind="stable")
        A[k, order[0]] = (r[order[0]] - r[order[1]]) / (r.std(ddof=1) + EPS)
    return -answer_mean(c, ppo(c, p, A))


# the ratio


def per_token_ratio(c, p, k, i):
    return np.exp(log_rho(c, p, k, i).sum() / c.L[k, i])


def gspo(c, p, h):
    A = standard(c)
    return -answer_mean(c, lambda k, i: clip(per_token_ratio(c, p, k, i), A[k, i], 3e-4, 4e-4))


def luspo(c, p, h):
    A = standard(c)
    return -answer_mean(
        c, lambda k, i: c.L[k, i] * clip(per_token_ratio(c, p, k, i), A[k, i], 2e-3, 2.5e-3)
    )


def cispo(c, p, h):
    A = (c.r - c.r.mean(1, keepdims=True)) / (c.r.std(ddof=1) + EPS)
    weight = lambda k, i: np.minimum(np.exp(log_rho(c, h, k, i)), 5)  # noqa: E731
    return -token_mean(c, lambda k, i: weight(k, i) * A[k, i] * pi(c, p, k, i))


def topr(c, p, h):
    total = 0.0
    for k, i in c.each():
        likelihood = pi(c, p, k, i).sum()
        if c.r[k, i] == 1:
            total += likelihood
        else:
            total -= min(np.exp(log_rho(c, h, k, i).sum()), 1) * likelihood
    return -total / (c.P * c.G)


def gmpo(c, p, h):
    A = standard(c)

    def mean_ratio(k, i):
        x = log_rho(c, p, k, i)
        kept = np.minimum(x, 0.4) if A[k, i] > 0 else np.maximum(x, -0.4)
        return np.exp(kept.mean()) * A[k, i]

    return -answer_mean(c, mean_ratio)


def sapo(c, p, h):
    A = standard(c)

    def gate(k, i):
        tau = 1.0 if A[k, i] > 0 else 1.05
        return 4 / tau / (1 + np.exp(-tau * (np.exp(log_rho(c, p, k, i)) - 1))) * A[k, i]

    return -answer_mean(c, gate)


def vespo(c, p, h):
    A = standard(c)

    def weighted(k, i):
        power, decay = (3, 2) if A[k, i] < 0 else (2, 3)
        w = np.exp(log_rho(c, h, k, i).sum())
        return w**power * np.exp(decay * (1 - w)) * A[k, i] * pi(c, p, k, i)

    return -token_mean(c, weighted)


def gbpo(c, p, h):
    A = standard(c)

    def distance(k, i):
        apart = (c.r[k, i] - np.median(c.r[k])) / (c.r[k].std(ddof=1) + EPS) / 1e-4
        target = 0.7 + 0.6 / (1 + np.exp(np.clip(-apart, -500, 500)))
        return np.abs((np.exp(log_rho(c, p, k, i)) - target) * A[k, i])

    return token_mean(c, distance)


# selection, tracking


def dapo(c, p, h):
    over = np.maximum(c.L / c.T - 0.8, 0) / 0.2
    A = [z(r - o) for r, o in zip(c.r, over, strict=True)]
    return -token_mean(c, ppo(c, p, A, 0.2, 0.28))


def d3s(c, p, h):
    num = round((0.1 + 0.9 * c.age) * c.G)
    share = 0.5 + 0.5 * c.age
    A, weights = standard(c), {}
    for k in range(c.P):
        order = np.argsort(A[k], kind="stable")
        splits = [np.concatenate([order[: num - j], order[c.G - j :]]) for j in range(num + 1)]
        for i in max(splits, key=lambda s: round(A[k][s].var(), 9)):
            for t in range(c.L[k, i]):
                weights[k, i, t] = abs(A[k, i]) * c.entropy[k, i, t]
    least = np.quantile(list(weights.values()), 1 - share)
    kept = [w for w in weights if weights[w] >= least and A[w[:2]] != 0]
    gain = [clip(np.exp(log_rho(c, p, k, i)[t]), A[k, i], 0.2, 0.2) for k, i, t in kept]
    return -np.mean(gain)


def spo(c, p, h):
    prompt = c.prompt.astype(int)
    right, wrong = np.asarray(c.state.correct)[prompt], np.asarray(c.state.wrong)[prompt]
    return -token_mean(c, ppo(c, p, z(c.r - (right / (right + wrong))[:, None])))


def tppo(c, p, h):
    window = round(0.5 * c.T)
    A = np.zeros((c.P, c.G, c.T))
    for k, i in c.each():
        after = 0.0
        for t in reversed(range(c.L[k, i])):
            last = t == c.L[k, i] - 1
            delta = (c.r[k, i] if last else c.value[k, i, t + 1]) - c.value[k, i, t]
            if last or t == window - 1:
                after = 0.0
            after = delta + 0.95 * after
            A[k, i, t] = after
    error = lambda k, i: 0.5 * (p.value[k, i, : c.L[k, i]] - c.r[k, i]) ** 2  # noqa: E731
    return -token_mean(c, ppo(c, p, A)) + 0.5 * token_mean(c, error)


def without_kl(c, p, h):
    return grpo_loss(c, p, standard(c), 0.0)


OF_FAMILY = (
    grpo, drgrpo, lite_ppo, rloo, reinforce_pp, reinforce_pp_baseline, pass_at_4, gspo, luspo,
    cispo, topr, gmpo, sapo, vespo, gbpo, dapo, d3s, spo, tppo,
)  # fmt: skip
SURROGATES = {f.__name__: f for f in OF_FAMILY} | {"two_grpo": grpo}
SURROGATES |= dict.fromkeys(("sec", "prof", "ghpo", "scaf_grpo"), without_kl)
