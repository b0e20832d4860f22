"""Rollouts: the experience of an agent that acts in a batch of environments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.parts.returns import (
    Episode,
    ValueEstimates,
    episode_metrics,
    generalized_advantage,
    next_values,
)

Act = Callable[[Any, Any, jax.Array, jax.Array], tuple[jax.Array, Any, Any]]
"""`(memory, obs, first, key) -> (action, memory, extras)`, over `[num_envs]`."""
FinalValue = Callable[[Any, Any], Any]
"""`(memory, final_obs) -> value [num_envs]`, with the memory after the last action."""


class Interaction(NamedTuple):
    """Where an agent stands in its environments, leaves `[num_envs, ...]`."""

    env_state: Any
    obs: Any
    first: jax.Array  # bool: obs is an episode's first
    memory: Any  # before obs; () without one
    episode: Episode

    @classmethod
    def start(
        cls, key: jax.Array, env: Any, env_params: Any, num_envs: int, memory: Any = ()
    ) -> "Interaction":
        """Begin an episode in each of `num_envs` environments on one level.

        Args:
            key: typed key.
            env: gymnax 1.x environment.
            env_params: the level.
            num_envs: number of environments.
            memory: the memory at the start of episodes.

        Raises:
            ValueError: if the environment does not keep the interface.
        """
        # Imported here, because gymnax starts JAX's backends, and the command line comes before.
        from purejaxrl.parts.check_env import check_env

        check_env(env, env_params)
        obs, env_state = reset(key, env, env_params, num_envs)
        first = jnp.ones(num_envs, bool)
        return cls(env_state, obs, first, memory, Episode.start(num_envs))


class Transition(NamedTuple):
    """Experience over time, leaves `[num_steps, num_envs, ...]`."""

    obs: Any  # what the action was chosen on
    action: jax.Array
    reward: jax.Array  # the environment's own, never scaled
    terminated: jax.Array  # the episode ended: no bootstrap
    truncated: jax.Array  # the episode was cut: bootstrap from `final_value`
    first: jax.Array  # obs is an episode's first
    final_obs: Any  # the true next observation; XLA drops it where nothing reads it
    final_value: Any  # its value; meaningful where truncated
    extras: Any  # what else `act` returned, such as log-probabilities


class Experience(NamedTuple):
    """What an agent experienced in one update: what every acting algorithm's `collect` returns."""

    transitions: Transition
    episodes: dict[str, jax.Array]  # metrics of the episodes that finished in it
    extras: Any = ()  # what the algorithm adds, such as the observation after the last step


def reset(key: jax.Array, env: Any, env_params: Any, num_envs: int) -> tuple[Any, Any]:
    """Reset `num_envs` environments on one level; returns (obs, env_state)."""
    keys = jax.random.split(key, num_envs)
    return jax.vmap(env.reset, in_axes=(0, None))(keys, env_params)


def no_value(memory: Any, final_obs: Any) -> tuple:
    """Return no value: the `final_value` of an algorithm that does not bootstrap from it."""
    return ()


def uniform(env: Any, env_params: Any = None) -> Act:
    """Act uniformly at random, on a level or by default on the environment's own."""
    space = env.action_space(env.default_params if env_params is None else env_params)

    def act(memory: Any, obs: Any, first: jax.Array, key: jax.Array):
        keys = jax.random.split(key, first.shape[0])
        return jax.vmap(space.sample)(keys), memory, ()

    return act


def sampled(act: Callable, policy: Any) -> Act:
    """Sample the actions of a policy.

    Args:
        act: the algorithm's `act`.
        policy: `algorithm.policy(state)`.
    """

    def sample(memory: Any, obs: Any, first: jax.Array, key: jax.Array):
        return *act(policy, memory, obs, first, key, False), ()

    return sample


def collect(
    key: jax.Array,
    env: Any,
    env_params: Any,
    interaction: Interaction,
    act: Act,
    num_steps: int,
    gamma: jax.Array,
    *,
    final_value: FinalValue = no_value,
) -> tuple[Interaction, Experience]:
    """Act for `num_steps` in auto-resetting environments.

    `final_value` is computed inside the step. To read `final_obs` afterwards instead keeps it for
    the whole rollout, which can take a hundred times the memory of everything else.

    Args:
        key: typed key.
        env: gymnax 1.x environment.
        env_params: the level, shared by the environments.
        interaction: where the agent stands.
        act: chooses actions.
        num_steps: steps in each environment.
        gamma: the agent's discount, for the episodes' discounted returns.
        final_value: values the last observations of episodes.

    Returns:
        Where the agent stands now, and its experience.
    """
    num_envs = interaction.first.shape[0]

    def step(carry: tuple, keys: tuple[jax.Array, jax.Array]):
        env_state, obs, first, memory = carry
        act_key, env_keys = keys
        action, memory, extras = act(memory, obs, first, act_key)
        next_obs, env_state, reward, terminated, truncated, info = jax.vmap(
            env.step, in_axes=(0, 0, 0, None)
        )(env_keys, env_state, action, env_params)
        truncated &= ~terminated
        final_obs = info["final_observation"]
        transition = Transition(
            obs, action, reward, terminated, truncated, first, final_obs,
            final_value(memory, final_obs), extras,
        )  # fmt: skip
        return (env_state, next_obs, terminated | truncated, memory), transition

    act_key, env_key = jax.random.split(key)
    keys = (  # split once for all steps, which is faster than one split per step
        jax.random.split(act_key, num_steps),
        jax.random.split(env_key, (num_steps, num_envs)),
    )
    x = interaction
    carry, transitions = jax.lax.scan(step, (x.env_state, x.obs, x.first, x.memory), keys)
    done = transitions.terminated | transitions.truncated
    episode, episodes = episode_metrics(x.episode, transitions.reward, done, gamma)
    return Interaction(*carry, episode), Experience(transitions, episodes)


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
        value: float32 `[num_steps, num_envs]`, of the observations acted on.
        last_value: float32 `[num_envs]`, of the observation after the last step.
        gamma, gae_lambda: scalars.
    """
    following = next_values(value, last_value, seen.final_value, seen.truncated)
    advantage = generalized_advantage(
        seen.reward, value, following, seen.terminated, seen.truncated, gamma, gae_lambda
    )
    return ValueEstimates(value, advantage)
