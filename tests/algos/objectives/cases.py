"""Small batches of answers, and one compiled program for each objective.

A batch has four prompts with four answers each, of up to five tokens of a vocabulary of six. Two
groups have correct and wrong answers, one has only correct ones, and one has only wrong ones.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algos.objectives import (
    OBJECTIVES,
    Answers,
    Inputs,
    Policy,
    compute_loss,
    with_advantages,
)
from algos.objectives.demonstrations import Buffer
from algos.objectives.diversity import PastEntropy
from algos.objectives.tracking import Tracker

P, G, T, V, D = 4, 4, 5, 6, 4
REWARD = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], np.float32)
LENGTH = np.array([[3, 5, 1, 4], [2, 2, 4, 5], [5, 1, 3, 2], [4, 3, 5, 5]])
PROMPT, DIFFICULTY = np.array([4, 0, 2, 5], np.int32), np.array([1, 0, 1, 2], np.int32)
NUM_PROMPTS, NUM_BINS, AGE, KL = 6, 3, 0.4, 0.02

STATES = {
    "spo": Tracker(
        correct=jnp.array([4.0, 2, 3, 1, 6, 1]),
        wrong=jnp.array([4.0, 6, 1, 3, 2, 5]),
        seen_at=jnp.array([0.0, 0.1, 0.2, 0.3, 0.25, 0.3]),
        total_kl=jnp.float32(0.3),
    ),
    "epo": PastEntropy(jnp.float32(4.2), jnp.float32(2)),
    "relift": Buffer(
        waiting=jnp.array([False, True, False, False, False, False]),
        studied=jnp.array([True, False, False, False, False, True]),
    ),
}
"""States that a run could have come to; other samplers are at their start."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def make_policy(seed: int = 1, apart: float = 0.15) -> Policy:
    """A policy near the one that sampled; `log_prob` is what `log_probs` says of the tokens."""
    rng, base = np.random.default_rng(seed), np.random.default_rng(0)
    tokens, logits, shown = draw_tokens(), base.normal(size=(P, G, T, V)), draw_demonstration()
    log_probs = log_softmax(logits + apart * rng.normal(size=logits.shape))
    return Policy(
        log_prob=take(log_probs, tokens).astype(np.float32),
        log_probs=log_probs.astype(np.float32),
        value=rng.uniform(size=(P, G, T)).astype(np.float32),
        demonstration_log_probs=log_softmax(rng.normal(size=(*shown.shape, V))).astype(np.float32),
    )


def take(log_probs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return np.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]


def draw_tokens() -> np.ndarray:
    return np.random.default_rng(2).integers(0, V, (P, G, T)).astype(np.int32)


def draw_demonstration() -> np.ndarray:
    return np.random.default_rng(3).integers(0, V, (P, D)).astype(np.int32)


def make_answers(reward: np.ndarray = REWARD) -> Answers:
    rng, old, ref = np.random.default_rng(4), make_policy(1, 0.0), make_policy(5, 0.3)
    entropy = -(np.exp(old.log_probs) * old.log_probs).sum(-1)
    return Answers(
        tokens=draw_tokens(),
        mask=np.arange(T) < LENGTH[..., None],
        old_log_prob=old.log_prob,
        ref_log_prob=ref.log_prob,
        reward=reward.astype(np.float32),
        prompt=PROMPT,
        difficulty=DIFFICULTY,
        answer=np.array([[0, 1, 1, 0], [3, 0, 1, 2], [0, 0, 0, 0], [5, 5, 5, 1]], np.int32),
        hint=np.where(np.arange(G) < 2, 0.5, 0.0) * np.ones((P, 1), np.float32),
        entropy=entropy,
        other_rewards=rng.uniform(size=(P, G, 2)).astype(np.float32),
        step_reward=rng.integers(0, 2, (P, G, T)).astype(np.float32),
        ref_log_probs=ref.log_probs,
        value=rng.uniform(size=(P, G, T)).astype(np.float32),
        belief=rng.uniform(size=(P, G, T + 1)).astype(np.float32),
        demonstration=draw_demonstration(),
        demonstration_mask=np.arange(D) < np.array([[2], [4], [3], [1]]),
    )


def make_inputs(name: str, answers: Answers, policy: Policy | None = None) -> Inputs:
    start = OBJECTIVES[name].sampler.init(NUM_PROMPTS, NUM_BINS)
    state = STATES.get(name, start)
    return Inputs(answers, state, jnp.float32(AGE), jnp.float32(KL), policy)


def quick_jit(function: Any) -> Any:
    """Compile without optimisation: the programs are many, and each runs a few times."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


@cache
def program(name: str) -> Any:
    """`(coefs, x) -> (loss, gradient with respect to x.policy)`, compiled once."""
    objective = OBJECTIVES[name]

    def loss_of(policy: Policy, coefs: Any, x: Inputs) -> jax.Array:
        x = x._replace(answers=with_advantages(objective, coefs, x), policy=policy)
        return compute_loss(objective, coefs, x)[0]

    return quick_jit(lambda coefs, x: jax.value_and_grad(loss_of)(x.policy, coefs, x))


def loss_and_gradient(name: str, answers: Answers, policy: Policy, **coefs: float) -> Any:
    coefs = OBJECTIVES[name].coefs.replace(**coefs) if coefs else OBJECTIVES[name].coefs
    return program(name)(coefs, make_inputs(name, answers, policy))
