"""How strongly an objective pushes the answers to each prompt: which prompts it favours."""

from typing import Any

import jax
import jax.numpy as jnp

from algos import grpo, token_policy
from algos.objectives import Inputs, Objective, push, with_advantages
from purejaxrl.algorithm import Task


def weigh_prompts(
    key: jax.Array,
    config: grpo.Config,
    env: Any,
    objective: Objective,
    hypers: grpo.Hypers,
    levels: Any,
) -> tuple[jax.Array, jax.Array]:
    """Sample answers of the initial policy, and compute how hard the objective pushes them.

    Args:
        key: typed key.
        config, env, objective: see `grpo.make`; P prompts of G answers are asked.
        hypers: the policy and the coefficients are in them.
        levels: the prompts to choose from, leaves `[num_prompts, ...]`.

    Returns:
        The share of correct answers to each prompt, and the sum over its answers of |∂loss/∂log π|,
        float32 `[P]` each.
    """
    algorithm = grpo.make(config, env, objective)
    state = algorithm.init(key, hypers, Task(levels, jnp.int32(1)))
    state, seen = algorithm.collect(state, hypers)
    network = token_policy.make_network(config, env)
    prompt = levels.prompt[seen.answers.prompt]
    x = Inputs(seen.answers, state.sampler, jnp.float32(0), state.kl)
    x = x._replace(answers=with_advantages(objective, hypers.coefs, x))
    x = x._replace(policy=grpo.read_policy(network, state.params, prompt, x.answers))
    weight = jnp.abs(push(objective, hypers.coefs, x)).sum(-1)
    return x.answers.reward.mean(-1), weight
