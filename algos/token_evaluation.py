"""Evaluating policies over tokens on prompts: pass@1, pass@k, diversity and lengths of answers."""

from typing import Any

import jax
import jax.numpy as jnp

from algos import token_policy
from purejaxrl.algorithm import Algorithm, Metrics
from purejaxrl.identity import fingerprint
from purejaxrl.running.evaluate import Evaluator


def pass_at(k: int, num_correct: jax.Array, num_answers: int) -> jax.Array:
    """Estimate, without bias, how often at least one of k answers is correct.

    1 - C(n - c, k) / C(n, k), for c correct ones of n (Chen et al. 2021, arXiv 2107.03374).
    """
    places = jnp.arange(k)
    wrong = num_answers - num_correct[..., None] - places
    return 1 - jnp.prod(jnp.maximum(wrong, 0) / (num_answers - places), axis=-1)


def count_unique(tokens: jax.Array, counts: jax.Array) -> jax.Array:
    """Count the different sequences `[G, T]` among those that count, bool `[G]`: int32 `[]`."""
    equal = (tokens[:, None] == tokens[None]).all(-1) & counts[None]
    is_first = equal.argmax(1) == jnp.arange(len(tokens))
    return (is_first & counts).sum()


def on_prompts(
    config: token_policy.NetworkConfig,
    env: token_policy.Task,
    levels: Any,
    num_answers: int = 32,
    k: int = 16,
):
    """Evaluate policies on prompts: pass@1, pass@k, entropy, unique correct answers and lengths.

    Args:
        config: the policies' network.
        env: the task.
        levels: the prompts.
        num_answers: sampled answers to each.
        k: k of pass@k.

    Returns:
        An `Evaluator`; its `return` is pass@1, and `wrong_length` the mean length of wrong answers,
        NaN where there are none.

    Raises:
        ValueError: if k is larger than the number of answers.
    """
    if not 1 <= k <= num_answers:
        raise ValueError(
            f"k: {k} is not valid; it must be an integer from 1 to {num_answers}, the number of "
            "answers to a prompt"
        )
    network = token_policy.make_network(config, env)
    levels = jax.tree.map(jnp.asarray, levels)

    def play(algorithm: Algorithm, key: jax.Array, policy: Any, env_params: Any) -> Metrics:
        answered = token_policy.answer(key, network, policy, levels, num_answers, env)
        judged = token_policy.judge_answers(env, levels, answered.tokens)
        num_correct, is_wrong = judged.reward.sum(1), judged.reward == 0
        unique = jax.vmap(count_unique)(answered.tokens, judged.reward > 0)
        return {
            "episodes": jnp.int32(judged.reward.size),
            "return": judged.reward.mean(),
            f"pass_at_{k}": pass_at(k, num_correct, num_answers).mean(),
            "entropy": answered.entropy.sum() / answered.mask.sum(),
            "unique_correct": unique.mean(),
            "length": judged.length.mean(),
            "wrong_length": judged.length.mean(where=is_wrong),
        }

    name = f"on_prompts({fingerprint(levels)}, {num_answers} answers, k={k})"
    return Evaluator(play, name, needs=())
