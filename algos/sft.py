"""Supervised learning of reference solutions: the start of a token policy.

The loss is the mean negative log-likelihood of the solution's tokens, the end token included. A
policy that is stopped early answers some prompts correctly and is unsure of most, which is what
learning from verified rewards needs: pass@1 and pass@k differ.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from algos import token_policy
from purejaxrl.algorithm import Algorithm, Metrics, Task, age_of, no_steps, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import optimizers
from purejaxrl.parts.action_values import of_action
from purejaxrl.validation import hyper, require_count


@dataclass(frozen=True)
class Config(token_policy.NetworkConfig):
    """Settings that decide a shape or a length. Static."""

    batch_size: int = 128
    """Prompts in a batch."""

    def __post_init__(self):
        super().__post_init__()
        require_count(self, "batch_size")


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    learning_rate: float = hyper(3e-3, at_least=0)
    """Adam's step size at the start; it falls to 0 linearly."""


class State(NamedTuple):
    """A policy that learns from solutions. The task's `env_params` are the prompts to train on."""

    params: Any
    opt_state: Any
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


def make(config: Config, env: Any) -> Algorithm:
    """Make supervised learning for a token task.

    Args:
        config: static settings.
        env: the task. The level of a run is a list of prompts, leaves `[num_prompts, ...]`, such as
            `env.levels`.

    Raises:
        ValueError: if the environment is no token task, or has no end token, or a prompt has no
            reference solution.
    """
    network = token_policy.make_network(config, env)
    token_policy.require_solutions(env, "supervised learning")
    act, memory = token_policy.act_by(network, env)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        params_key, key = jax.random.split(key)
        params = token_policy.init_params(params_key, network)
        opt_state = optimizers.adam(hypers.learning_rate).init(params)
        return State(params, opt_state, task, key, jnp.int32(0))

    def draw(state: State, hypers: Hypers) -> tuple[State, Any]:
        """Draw prompts, with replacement."""
        key, draw_key = jax.random.split(state.key)
        levels = state.task.env_params
        which = jax.random.randint(draw_key, (config.batch_size,), 0, levels.prompt.shape[0])
        return state._replace(key=key), jax.tree.map(lambda x: x[which], levels)

    def learn(state: State, hypers: Hypers, levels: Any) -> tuple[State, Metrics]:
        counts = levels.solution != env.pad

        def loss(params: Any) -> jax.Array:
            answers = levels.solution[:, None]
            log_probs, _ = token_policy.read_answers(network, params, levels.prompt, answers)
            log_prob = of_action(log_probs, answers)[:, 0]
            return -jnp.where(counts, log_prob, 0.0).sum() / counts.sum()

        value, grads = jax.value_and_grad(loss)(state.params)
        rate = hypers.learning_rate * (1 - age_of(state))
        params, opt_state = optimizers.descend(rate, grads, state.opt_state, state.params)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, no_steps() | {"loss": value}

    return Algorithm(
        config, init, draw, learn, lambda state: state.params, act, memory,
        vital=vital_losses("loss"),
        steps_per_update=0, made_of=part_names(env),
    )  # fmt: skip
