"""Experience: a policy stepped through a batch of environments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from purejaxrl.parts.returns import episode_metrics


class Transition(NamedTuple):
    """Experience over time, leaves `[T, num_envs, ...]`."""

    obs: Any  # what the action was chosen on
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array  # the episode ended: nothing to bootstrap from
    truncated: jax.Array  # the episode was cut: bootstrap from `final_value`
    first: jax.Array  # obs is an episode's first
    final_obs: Any  # the true next observation; where nobody reads it, XLA leaves it out
    final_value: jax.Array  # its value; meaningful where truncated
    extras: Any  # what `act` chose to remember, such as log-probabilities


def reset(key: jax.Array, env: Any, env_params: Any, num_envs: int) -> tuple[Any, Any]:
    """Reset `num_envs` environments on one level; returns (obs, env_state)."""
    keys = jax.random.split(key, num_envs)
    return jax.vmap(env.reset, in_axes=(0, None))(keys, env_params)


def no_value(memory: Any, final_obs: Any) -> tuple:
    """Value nothing."""
    return ()


class Experience(NamedTuple):
    """What an agent saw in one update, and the episodes that ended in it."""

    transitions: Transition
    episodes: dict[str, jax.Array]


def collect(
    state: Any, env: Any, act: Callable, final_value: Callable, num_steps: int, gamma: jax.Array
) -> tuple[Any, Experience]:
    """Let an agent without memory act for `num_steps`, and keep account of its episodes.

    Args:
        state: an agent's state, with `key`, `task`, `env_state`, `obs`, `first` and `episode`.
        env: gymnax 1.x environment.
        act, final_value: as in `rollout`.
        num_steps: T.
        gamma: the agent's discount.
    """
    key, rollout_key = jax.random.split(state.key)
    env_state, obs, first, _, seen = rollout(
        rollout_key, env, state.task.env_params, state.env_state, state.obs, state.first,
        (), act, final_value, num_steps,
    )  # fmt: skip
    done = seen.terminated | seen.truncated
    episode, episodes = episode_metrics(state.episode, seen.reward, done, gamma)
    state = state._replace(env_state=env_state, obs=obs, first=first, key=key, episode=episode)
    return state, Experience(seen, episodes)


def rollout(
    key: jax.Array,
    env: Any,
    env_params: Any,
    env_state: Any,
    obs: Any,
    first: jax.Array,
    memory: Any,
    act: Callable,
    final_value: Callable,
    num_steps: int,
) -> tuple[Any, Any, jax.Array, Any, Transition]:
    """Act for `num_steps` in `num_envs` auto-resetting environments.

    An algorithm that needs the value of an episode's final observation, no more, has it computed
    within the step: carrying `final_obs` through the rollout, as reading it does, can cost a
    hundred times the memory of everything else.

    Args:
        key: typed key.
        env: gymnax 1.x environment.
        env_params: the level, shared by the environments.
        env_state, obs: where the environments stand, leaves `[num_envs, ...]`.
        first: bool `[num_envs]`, whether `obs` is an episode's first.
        memory: what `act` carries from step to step; () if nothing.
        act: `(memory, obs, first, key) -> (memory, action, extras)`.
        final_value: `(memory, final_obs) -> [num_envs]`, with the memory after `obs`; `no_value`
            where nobody reads it.
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
    keys = (  # all at once: a step's overhead counts
        jax.random.split(act_key, num_steps),
        jax.random.split(env_key, (num_steps, num_envs)),
    )
    carry, transitions = jax.lax.scan(step, (env_state, obs, first, memory), keys)
    return *carry, transitions
