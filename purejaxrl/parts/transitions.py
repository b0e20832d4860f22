"""Transitions in a replay buffer: what is kept of a step, what is drawn, and the warm-up.

A step is kept whole: with the observation that its action led to, also where an episode ended. So a
step at which a time limit cut the episode bootstraps from the true last observation. Observations
are kept as they came, and normalised when they are drawn.

Rollouts are written step after step, all environments side by side. So the next step of the same
environment lies `num_envs` places further on, and n-step returns are summed up when they are drawn.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.parts.normalize import Moments, advance, normalize_obs
from purejaxrl.parts.replay import Replay
from purejaxrl.parts.rollout import Interaction, Transition, collect, uniform
from purejaxrl.validation import require, require_count


class Step(NamedTuple):
    """Environment steps, as a buffer or a dataset keeps them: leaves `[num_steps, ...]`."""

    obs: Any
    action: jax.Array  # int32, or float32 `[..., num_dims]`
    reward: jax.Array  # float32
    terminated: jax.Array  # bool
    truncated: jax.Array  # bool, False where terminated
    next_obs: Any  # the true next observation, not the one after a reset


class Batch(NamedTuple):
    """Transitions to learn from, leaves `[batch_size, ...]`.

    The target of a value is `reward + discount * V(next_obs)`.
    """

    obs: Any
    action: jax.Array
    reward: jax.Array  # float32, discounted sum over up to n steps
    discount: jax.Array  # float32, γ to the number of steps; 0 where the episode terminated
    next_obs: Any


def check_replay(config: Any) -> None:
    """Raise a ValueError unless a config's buffer, warm-up and batches fit each other.

    Args:
        config: has the fields `num_envs`, `num_steps`, `capacity`, `warmup_steps`, `batch_size` and
            `num_batches`.
    """
    fields = "num_envs", "num_steps", "capacity", "warmup_steps", "batch_size", "num_batches"
    require_count(config, *fields)
    rollout = config.num_envs * config.num_steps
    multiple = f"a multiple of num_envs * num_steps = {rollout}"
    for name in ("capacity", "warmup_steps"):
        require(getattr(config, name) % rollout == 0, config, name, multiple)
    fits = config.warmup_steps <= config.capacity
    require(fits, config, "warmup_steps", f"at most the capacity, {config.capacity}")
    enough = config.batch_size <= config.warmup_steps
    require(enough, config, "batch_size", f"at most warmup_steps, {config.warmup_steps}")


def steps_of(seen: Transition) -> Step:
    """Flatten a rollout `[T, num_envs, ...]` into the steps to keep, `[T * num_envs, ...]`."""
    kept = Step(seen.obs, seen.action, seen.reward, seen.terminated, seen.truncated, seen.final_obs)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), kept)


def warm_up(
    key: jax.Array,
    env: Any,
    env_params: Any,
    interaction: Interaction,
    config: Any,
    gamma: jax.Array,
) -> tuple[Interaction, Replay]:
    """Fill a buffer with `warmup_steps` steps of uniformly random actions.

    It is part of `init`, so that no update has to ask whether there is enough: under vmap the
    answer would cost a select over the whole state.

    Args:
        key: typed key.
        env, env_params: the environment, on its level.
        interaction: where the agent stands.
        config: has the fields that `check_replay` reads.
        gamma: discount.
    """

    def play(interaction: Interaction, key: jax.Array) -> tuple[Interaction, Step]:
        interaction, experience = collect(
            key, env, env_params, interaction, uniform(env), config.num_steps, gamma
        )
        return interaction, steps_of(experience.transitions)

    def fill(carry: tuple[Interaction, Replay], key: jax.Array):
        interaction, steps = play(carry[0], key)
        return (interaction, carry[1].write(steps)), None

    _, shapes = jax.eval_shape(play, interaction, key)
    keys = jax.random.split(key, config.warmup_steps // (config.num_envs * config.num_steps))
    start = interaction, Replay.start(shapes, config.capacity)
    return jax.lax.scan(fill, start, keys)[0]


def warmup_moments(replay: Replay, config: Any) -> Moments | None:
    """Compute the moments of the warm-up's observations; None if they are not standardised.

    Args:
        replay: what `warm_up` filled.
        config: has the fields `normalize_obs` and `warmup_steps`.
    """
    if not config.normalize_obs:
        return None
    obs = replay.contents.obs[: config.warmup_steps]
    return advance(Moments.start(obs.shape[1:]), obs)


def count_steps(state: Any, config: Any) -> dict[str, jax.Array]:
    """Count the environment steps of an update, the first of which also counts the warm-up's."""
    warmup = jnp.where(state.step == 0, config.warmup_steps, 0)
    return {"env_steps": jnp.int32(config.num_envs * config.num_steps + warmup)}


def draw_batch(
    key: jax.Array,
    replay: Replay,
    size: int,
    gamma: jax.Array,
    *,
    num_envs: int,
    num_steps: int = 1,
) -> Batch:
    """Draw transitions at random, with replacement; the cost does not depend on the capacity.

    Args:
        key: typed key.
        replay: contents are a `Step`.
        size: number of transitions.
        gamma: discount.
        num_envs: environments side by side in the buffer.
        num_steps: n of the n-step returns.
    """
    places = replay.draw(key, size)
    return sum_rewards(replay, places, gamma, num_envs, num_steps)


def draw_normalized(
    key: jax.Array, replay: Replay, moments: Moments | None, config: Any, hypers: Any
) -> Batch:
    """Draw a batch, standardise its observations if there are moments, and scale its rewards.

    Args:
        key: typed key.
        replay: contents are a `Step`.
        moments: moments of the observations; None leaves these as they are.
        config: has the fields `batch_size`, `num_envs` and `num_returns`.
        hypers: has the fields `gamma` and `reward_scale`.
    """
    batch = draw_batch(
        key, replay, config.batch_size, hypers.gamma,
        num_envs=config.num_envs, num_steps=config.num_returns,
    )  # fmt: skip
    return batch._replace(
        obs=normalize_obs(moments, batch.obs),
        next_obs=normalize_obs(moments, batch.next_obs),
        reward=hypers.reward_scale * batch.reward,
    )


def sum_rewards(
    replay: Replay, places: jax.Array, gamma: jax.Array, num_envs: int, num_steps: int
) -> Batch:
    """Read transitions of up to `num_steps` steps each, from the places where they begin.

    A transition ends early where its episode terminated or was truncated, and where its next step
    is not written yet.
    """
    steps: Step = replay.contents
    num_later = (replay.written - 1 - places) % replay.capacity  # how many were written after it
    last, going = places, jnp.ones(places.shape, bool)
    reward, discount = jnp.zeros(places.shape), jnp.ones(places.shape)
    for k in range(num_steps):
        going &= k * num_envs <= num_later
        last = jnp.where(going, (places + k * num_envs) % replay.capacity, last)
        reward += jnp.where(going, discount * steps.reward[last], 0.0)
        discount = jnp.where(going, discount * gamma, discount)
        going &= ~(steps.terminated[last] | steps.truncated[last])
    discount = jnp.where(steps.terminated[last], 0.0, discount)
    read = lambda tree, at: jax.tree.map(lambda x: x[at], tree)  # noqa: E731
    return Batch(
        read(steps.obs, places), steps.action[places], reward, discount, read(steps.next_obs, last)
    )
