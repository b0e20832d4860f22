"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, arXiv 1802.09477).

A deterministic policy follows the gradient of a critic, which learns from a replay buffer. Three
things keep the critic from overestimating. Clipped double Q-learning: targets take the lower of two
critics. Target policy smoothing: clipped noise is added to the target policy's action. Delayed
updates: the policy and all target networks move once in `policy_delay` steps of the critics.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, torsos
from purejaxrl.parts.critics import ContinuousCritics
from purejaxrl.parts.normalize import Moments, advance, normalize_obs
from purejaxrl.parts.optimizers import descend, init_each
from purejaxrl.parts.replay import Replay
from purejaxrl.parts.rollout import Experience, Interaction, collect
from purejaxrl.parts.targets import track
from purejaxrl.parts.transitions import (
    Batch,
    check_replay,
    count_steps,
    draw_normalized,
    steps_of,
    warm_up,
    warmup_moments,
)
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    num_envs: int = 4
    """Environments that one agent acts in at a time."""
    num_steps: int = 1
    """Steps in each environment between updates."""
    capacity: int = 100_000
    """Steps in the replay buffer; a multiple of num_envs * num_steps."""
    warmup_steps: int = 1_000
    """Random environment steps before the first update; a multiple of num_envs * num_steps."""
    batch_size: int = 256
    """Transitions in a batch."""
    num_batches: int = 4
    """Batches of an update, one gradient step of the critics each; a multiple of policy_delay."""
    policy_delay: int = 2
    """Steps of the critics for each step of the policy and of the target networks."""
    num_returns: int = 1
    """n of the n-step returns."""
    torso: networks.TorsoKind = "mlp"
    """Kind of torso; actor and critics each have their own."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "relu"
    """Nonlinearity of the torso."""
    normalize_obs: bool = False
    """Standardise observations by their running moments."""

    @property
    def steps_per_update(self) -> int:
        """Environment steps per update."""
        return self.num_envs * self.num_steps

    def __post_init__(self):
        check_replay(self)
        require_count(self, "policy_delay", "num_returns")
        networks.check_network(self)
        divides = self.num_batches % self.policy_delay == 0
        require(divides, self, "num_batches", f"a multiple of policy_delay = {self.policy_delay}")


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    actor_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size of the actor."""
    critic_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size of the critics."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step."""
    exploration_noise: float = hyper(0.1, at_least=0)
    """Standard deviation of the noise on the actions taken, which lie in [-1, 1]."""
    target_noise: float = hyper(0.2, at_least=0)
    """Standard deviation of the noise on the target policy's actions."""
    target_noise_clip: float = hyper(0.5, at_least=0, infinite=True)
    """Bound of that noise."""
    target_rate: float = hyper(0.005, above=0, at_most=1)
    """How far the target networks move with each step of the policy."""
    reward_scale: float = hyper(1.0, above=0)
    """Rewards are multiplied by this before values are learned from them."""


class Params(NamedTuple):
    """An entry for each part that is learned: its parameters, or its optimizer's state."""

    actor: Any
    critic: Any


class State(NamedTuple):
    """An agent on a level."""

    params: Params
    target_params: Params  # of the target networks
    opt_state: Params
    moments: Moments | None  # of the observations, where they are normalised
    replay: Replay
    interaction: Interaction
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


class Policy(NamedTuple):
    """What acting needs."""

    actor: Any
    moments: Moments | None


def add_noise(key: jax.Array, action: jax.Array, std: jax.Array, clip: jax.Array) -> jax.Array:
    """Add Gaussian noise, clipped to ±clip, to actions in [-1, 1]."""
    noise = jnp.clip(std * jax.random.normal(key, action.shape), -clip, clip)
    return jnp.clip(action + noise, -1.0, 1.0)


class Learned(NamedTuple):
    """The fields of a `State` that gradient steps change."""

    params: Params
    target_params: Params
    opt_state: Params


def improve(
    learned: Learned,
    inputs: Any,
    hypers: Any,
    critics: ContinuousCritics,
    draw: Callable[[Params, Any], tuple[Any, jax.Array]],
    policy_loss: Callable[[Any, Any, Any], jax.Array],
) -> tuple[Learned, Metrics]:
    """Take `policy_delay` steps of the critics, and one of the policy and the target networks.

    Args:
        learned: the networks and their optimizers.
        inputs: what `draw` reads in each step of the critics, `[policy_delay, ...]`.
        hypers: `actor_rate`, `critic_rate` and `target_rate` are read.
        critics: the critics' networks.
        draw: `(target_params, input) -> (batch, targets [batch_size])`, for both critics.
        policy_loss: `(actor_params, critic_params, batch) -> loss []`, on the last of the batches.
    """
    params, target_params, opt_state = learned

    def improve_critics(carry: tuple, x: Any):
        """Take one gradient step of both critics, on a new batch."""
        (critic_params, opt_state), (batch, target) = carry, draw(target_params, x)

        def loss(critic_params: Any) -> tuple[jax.Array, jax.Array]:
            q = critics.q(critic_params, batch.obs, batch.action)
            return 0.5 * ((q - target) ** 2).mean(-1).sum(), q.mean()

        (value, q), grads = jax.value_and_grad(loss, has_aux=True)(critic_params)
        carry = descend(hypers.critic_rate, grads, opt_state, critic_params)
        return carry, (batch, {"critic_loss": value, "q": q})

    (critic_params, critic_opt), (batches, metrics) = jax.lax.scan(
        improve_critics, (params.critic, opt_state.critic), inputs
    )
    last = jax.tree.map(lambda x: x[-1], batches)
    value, grads = jax.value_and_grad(policy_loss)(params.actor, critic_params, last)
    actor_params, actor_opt = descend(hypers.actor_rate, grads, opt_state.actor, params.actor)
    params = Params(actor_params, critic_params)
    target_params = track(target_params, params, hypers.target_rate)
    learned = Learned(params, target_params, Params(actor_opt, critic_opt))
    return learned, metrics | {"actor_loss": value}


def make(config: Config, env: Any, torso: nn.Module | None = None) -> Algorithm:
    """Make TD3 for a gymnax environment with actions in [-1, 1].

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        torso: maps observations `[..., *obs_shape]`, and observations with the action appended, to
            features `[..., width]`, one each for actor and critics; by default the one that the
            config names.

    Raises:
        ValueError: if the torso cannot read the observations or does not return features, actions
            are not a vector in [-1, 1], or observations are not vectors.
    """
    features = torsos.torso_for(config, env, torso)
    critics = ContinuousCritics(env, features)
    actor = nn.Sequential([features, networks.dense(critics.num_dims, 0.01), jnp.tanh])

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        actor_key, critic_key, env_key, warmup_key, key = jax.random.split(key, 5)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs)
        obs = interaction.obs
        params = Params(actor.init(actor_key, obs), critics.init(critic_key, obs))
        interaction, replay = warm_up(
            warmup_key, env, task.env_params, interaction, config, hypers.gamma
        )
        return State(
            params=params,
            target_params=params,
            opt_state=init_each(params),
            moments=warmup_moments(replay, config),
            replay=replay,
            interaction=interaction,
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        def explore(memory, obs, first, key):
            action = actor.apply(state.params.actor, normalize_obs(state.moments, obs))
            return add_noise(key, action, hypers.exploration_noise, jnp.inf), memory, ()

        key, rollout_key = jax.random.split(state.key)
        interaction, experience = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma,
        )  # fmt: skip
        return state._replace(interaction=interaction, key=key), experience

    def targets(target_params: Params, batch: Batch, key: jax.Array, hypers: Hypers) -> jax.Array:
        """Compute what both critics' values of the actions taken should be, `[batch_size]`."""
        action = actor.apply(target_params.actor, batch.next_obs)
        action = add_noise(key, action, hypers.target_noise, hypers.target_noise_clip)
        q = critics.q(target_params.critic, batch.next_obs, action)
        return batch.reward + batch.discount * q.min(0)

    def policy_loss(actor_params: Any, critic_params: Any, batch: Batch) -> jax.Array:
        action = actor.apply(actor_params, batch.obs)
        return -critics.q(critic_params, batch.obs, action)[0].mean()

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        seen, moments = experience.transitions, state.moments
        replay = state.replay.write(steps_of(seen))
        moments = None if moments is None else advance(moments, seen.obs)

        def draw(target_params: Params, key: jax.Array) -> tuple[Batch, jax.Array]:
            draw_key, noise_key = jax.random.split(key)
            batch = draw_normalized(draw_key, replay, moments, config, hypers)
            return batch, targets(target_params, batch, noise_key, hypers)

        def improve_all(learned: Learned, keys: jax.Array) -> tuple[Learned, Metrics]:
            return improve(learned, keys, hypers, critics, draw, policy_loss)

        key, learn_key = jax.random.split(state.key)
        keys = jax.random.split(
            learn_key, (config.num_batches // config.policy_delay, config.policy_delay)
        )
        learned = Learned(state.params, state.target_params, state.opt_state)
        learned, metrics = jax.lax.scan(improve_all, learned, keys)
        metrics = jax.tree.map(jnp.mean, metrics) | experience.episodes
        metrics |= count_steps(state, config)
        state = state._replace(
            **learned._asdict(), moments=moments, replay=replay, key=key, step=state.step + 1
        )
        return state, metrics

    def act(policy: Policy, memory, obs, first, key, greedy: bool):
        return actor.apply(policy.actor, normalize_obs(policy.moments, obs)), memory

    return Algorithm(
        config, init, collect_experience, learn,
        lambda state: Policy(state.params.actor, state.moments), act,
        vital=vital_losses("critic_loss", "actor_loss"),
        num_envs=config.num_envs, steps_per_update=config.steps_per_update,
        warmup_steps=config.warmup_steps, in_place=("replay",), made_of=part_names(env, torso),
    )  # fmt: skip
