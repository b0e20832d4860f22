"""Experience: a policy stepped through a batch of environments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from purejaxrl.parts.returns import (
    ValueEstimates,
    episode_metrics,
    generalized_advantage,
    next_values,
)

Act = Callable[[Any, Any, jax.Array, jax.Array], tuple[Any, jax.Array, Any]]
"""`(memory, obs, first, key) -> (memory, action, extras)`, over `[num_envs]`."""
FinalValue = Callable[[Any, Any], Any]
"""`(memory, final_obs) -> value [num_envs]`, with the memory after the last action."""


class Transition(NamedTuple):
    """Experience over time, leaves `[T, num_envs, ...]`."""

    obs: Any  # what the action was chosen on
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array  # the episode ended: no bootstrap
    truncated: jax.Array  # the episode was cut: bootstrap from `final_value`
    first: jax.Array  # obs is an episode's first
    final_obs: Any  # the true next observation; XLA drops it where nothing reads it
    final_value: jax.Array  # its value; meaningful where truncated
    extras: Any  # what `act` returned besides, such as log-probabilities


def reset(key: jax.Array, env: Any, env_params: Any, num_envs: int) -> tuple[Any, Any]:
    """Reset `num_envs` environments on one level; returns (obs, env_state)."""
    keys = jax.random.split(key, num_envs)
    return jax.vmap(env.reset, in_axes=(0, None))(keys, env_params)


def no_value(memory: Any, final_obs: Any) -> tuple:
    """Be the `FinalValue` of an algorithm that needs none."""
    return ()


class Experience(NamedTuple):
    """What an agent saw in one update, and metrics of the episodes that finished in it."""

    transitions: Transition
    episodes: dict[str, jax.Array]


def collect(
    state: Any,
    env: Any,
    act: Act,
    final_value: FinalValue,
    num_steps: int,
    gamma: jax.Array,
    memory: Any = (),
) -> tuple[Any, Any, Experience]:
    """Let an agent act for `num_steps`, and account for its episodes.

    Args:
        state: an agent's state, with `key`, `task`, `env_state`, `obs`, `first` and `episode`.
        env: gymnax 1.x environment.
        act: chooses actions.
        final_value: values the last observations of episodes.
        num_steps: T.
        gamma: the agent's discount.
        memory: the agent's memory before `obs`; () without one.

    Returns:
        The agent's state, its memory, and its experience.
    """
    key, rollout_key = jax.random.split(state.key)
    env_state, obs, first, memory, seen = rollout(
        rollout_key, env, state.task.env_params, state.env_state, state.obs, state.first,
        memory, act, final_value, num_steps,
    )  # fmt: skip
    done = seen.terminated | seen.truncated
    episode, episodes = episode_metrics(state.episode, seen.reward, done, gamma)
    state = state._replace(env_state=env_state, obs=obs, first=first, key=key, episode=episode)
    return state, memory, Experience(seen, episodes)


def estimate_values(
    seen: Transition,
    value: jax.Array,
    last_value: jax.Array,
    gamma: jax.Array,
    gae_lambda: jax.Array,
) -> ValueEstimates:
    """Estimate the advantages of a rollout whose episodes' `final_value` is known.

    Args:
        seen: the rollout.
        value: float32 `[T, num_envs]`, of the observations acted on.
        last_value: float32 `[num_envs]`, of the observation after the last step.
        gamma, gae_lambda: scalars.
    """
    following = next_values(value, last_value, seen.final_value, seen.truncated)
    advantage = generalized_advantage(
        seen.reward, value, following, seen.terminated, seen.truncated, gamma, gae_lambda
    )
    return ValueEstimates(value, advantage)


def rollout(
    key: jax.Array,
    env: Any,
    env_params: Any,
    env_state: Any,
    obs: Any,
    first: jax.Array,
    memory: Any,
    act: Act,
    final_value: FinalValue,
    num_steps: int,
) -> tuple[Any, Any, jax.Array, Any, Transition]:
    """Act for `num_steps` in `num_envs` auto-resetting environments.

    `final_value` is computed inside the step. To read `final_obs` afterwards instead keeps it for
    the whole rollout, which can take a hundred times the memory of everything else.

    Args:
        key: typed key.
        env: gymnax 1.x environment.
        env_params: the level, shared by the environments.
        env_state, obs: the current states and observations, leaves `[num_envs, ...]`.
        first: bool `[num_envs]`, whether `obs` is an episode's first.
        memory: what `act` carries from step to step; () if nothing.
        act: chooses actions.
        final_value: values the last observations of episodes; `no_value` if nothing reads it.
        num_steps: T.

    Returns:
        `(env_state, obs, first, memory, transitions)`.
    """
    num_envs = first.shape[0]

    def step(carry, keys):
        env_state, obs, first, memory = carry
        act_key, env_keys = keys
        memory, action, extras = act(memory, obs, first, act_key)
        next_obs, env_state, reward, terminated, truncated, info = jax.vmap(
            env.step, in_axes=(0, 0, 0, None)
        )(env_keys, env_state, action, env_params)
        truncated &= ~terminated
        transition = Transition(
            obs,
            action,
            reward,
            terminated,
            truncated,
            first,
            info["final_observation"],
            final_value(memory, info["final_observation"]),
            extras,
        )
        return (env_state, next_obs, terminated | truncated, memory), transition

    act_key, env_key = jax.random.split(key)
    keys = (  # split once for all steps: a step's overhead counts
        jax.random.split(act_key, num_steps),
        jax.random.split(env_key, (num_steps, num_envs)),
    )
    carry, transitions = jax.lax.scan(step, (env_state, obs, first, memory), keys)
    return *carry, transitions
