"""Recording datasets: what a policy does, or what a replay buffer saw."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.replay import Replay
from purejaxrl.parts.rollout import Act, Interaction, collect
from purejaxrl.parts.transitions import Step, steps_of


def record(
    key: jax.Array,
    env: Any,
    env_params: Any,
    act: Act,
    *,
    num_steps: int,
    num_envs: int,
    memory: Any = (),
) -> Dataset:
    """Record the steps of a policy; jit this function.

    Args:
        key: typed key.
        env: gymnax environment.
        env_params: the level.
        act: chooses actions, as `rollout.sampled` or `rollout.uniform`.
        num_steps: steps in each environment.
        num_envs: environments side by side. Each makes episodes of its own, the last of which is
            cut where the recording stops.
        memory: the memory at the start of an episode.
    """
    start_key, play_key = jax.random.split(key)
    start = Interaction.start(start_key, env, env_params, num_envs, memory)
    _, experience = collect(play_key, env, env_params, start, act, num_steps, 1.0)
    return in_order(steps_of(experience.transitions), num_envs)


def in_order(steps: Step, num_envs: int) -> Dataset:
    """Sort steps of environments side by side into one environment after the other.

    Args:
        steps: leaves `[num_steps * num_envs, ...]`, ordered by time, environments side by side.
        num_envs: number of environments.
    """

    def sort(x: jax.Array) -> jax.Array:
        return x.reshape(-1, num_envs, *x.shape[1:]).swapaxes(0, 1)

    sorted_steps = jax.tree.map(sort, steps)
    truncated = sorted_steps.truncated.at[:, -1].set(True) & ~sorted_steps.terminated
    sorted_steps = sorted_steps._replace(truncated=truncated)
    return Dataset(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), sorted_steps))


def replayed(replay: Replay, num_steps: int, num_envs: int) -> Dataset:
    """Return the first steps that a replay buffer saw.

    Args:
        replay: contents are a `Step`; nothing in it was overwritten yet.
        num_steps: environment steps, a multiple of `num_envs`.
        num_envs: environments side by side in the buffer.
    """
    return in_order(jax.tree.map(lambda x: x[:num_steps], replay.contents), num_envs)


def cut(dataset: Dataset, num_steps: int) -> Dataset:
    """Keep the first steps of a dataset; the last episode is cut where they end."""
    steps = jax.tree.map(lambda x: x[:num_steps], dataset.steps)
    truncated = steps.truncated.at[-1].set(~steps.terminated[-1])
    return Dataset(steps._replace(truncated=truncated))


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Put datasets one after the other."""
    steps = [one.steps for one in datasets]
    return Dataset(jax.tree.map(lambda *parts: jnp.concatenate(parts), *steps))
