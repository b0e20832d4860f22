"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905).

A stochastic policy maximises return and entropy. Two critics learn its soft values from a replay
buffer; the lower of them makes the targets. The temperature α, the weight of the entropy, is
adjusted until the policy has a target entropy. Actions are continuous, or discrete (Christodoulou
2019, arXiv 1910.07207); `sac_actions.py` says what differs.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from algos.sac_actions import Actions, ContinuousActions, DiscreteActions
from purejaxrl.algorithm import Algorithm, Metrics, Task, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, torsos
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
from purejaxrl.validation import hyper, require_count


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
    """Batches of an update; actor, critics and temperature take one gradient step on each."""
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
        require_count(self, "num_returns")
        networks.check_network(self)


class Hypers(struct.PyTreeNode):
    """Hyperparameters for continuous actions, to be vmapped, swept or meta-learned. Traced."""

    actor_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size of the actor."""
    critic_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size of the critics."""
    alpha_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size of log α; 0 keeps the temperature."""
    alpha_start: float = hyper(1.0, above=0)
    """The temperature α at the start."""
    target_entropy: float = hyper(-1.0)
    """The entropy that α is adjusted to, in nats per dimension of the action."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step."""
    target_rate: float = hyper(0.005, above=0, at_most=1)
    """How far the target critics move at a gradient step."""
    reward_scale: float = hyper(1.0, above=0)
    """Rewards are multiplied by this before values are learned from them."""


class DiscreteHypers(Hypers):
    """The same for discrete actions."""

    target_entropy: float = hyper(0.98, at_least=0, at_most=1)
    """The entropy that α is adjusted to, as a fraction of the highest, log num_actions."""


class Params(NamedTuple):
    """An entry for each part that is learned: its parameters, or its optimizer's state."""

    actor: Any
    critic: Any
    log_alpha: Any


class State(NamedTuple):
    """An agent on a level."""

    params: Params
    target_params: Any  # of the target critics
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


def learn_from_batch(
    actions: Actions,
    params: Params,
    target_params: Any,
    opt_state: Params,
    batch: Batch,
    key: jax.Array,
    hypers: Hypers,
) -> tuple[Params, Any, Params, Metrics]:
    """Take one gradient step: of the critics, then of the actor, then of the temperature."""
    target_key, actor_key = jax.random.split(key)
    alpha = jnp.exp(params.log_alpha)
    following = actions.consider(params.actor, target_params, batch.next_obs, target_key)
    target = batch.reward + batch.discount * following.soft_value(alpha)

    def critic_loss(critic: Any) -> tuple[jax.Array, jax.Array]:
        q = actions.critics.q(critic, batch.obs, batch.action)
        return 0.5 * ((q - target) ** 2).mean(-1).sum(), q.mean()

    (of_critic, q), grads = jax.value_and_grad(critic_loss, has_aux=True)(params.critic)
    critic, critic_opt = descend(hypers.critic_rate, grads, opt_state.critic, params.critic)

    def actor_loss(actor: Any) -> tuple[jax.Array, jax.Array]:
        considered = actions.consider(actor, critic, batch.obs, actor_key)
        return -considered.soft_value(alpha).mean(), considered.entropy.mean()

    (of_actor, entropy), grads = jax.value_and_grad(actor_loss, has_aux=True)(params.actor)
    actor, actor_opt = descend(hypers.actor_rate, grads, opt_state.actor, params.actor)

    def alpha_loss(log_alpha: jax.Array) -> jax.Array:
        wanted = hypers.target_entropy * actions.entropy_unit
        return jnp.exp(log_alpha) * (entropy - wanted)

    grads = jax.grad(alpha_loss)(params.log_alpha)
    log_alpha, alpha_opt = descend(hypers.alpha_rate, grads, opt_state.log_alpha, params.log_alpha)

    losses = {"critic_loss": of_critic, "actor_loss": of_actor}
    metrics = losses | {"q": q, "entropy": entropy, "alpha": alpha}
    target_params = track(target_params, critic, hypers.target_rate)
    params, opt_state = Params(actor, critic, log_alpha), Params(actor_opt, critic_opt, alpha_opt)
    return params, target_params, opt_state, metrics


def make(config: Config, env: Any, torso: nn.Module | None = None) -> Algorithm:
    """Make SAC for a gymnax environment with actions in [-1, 1], or with discrete ones.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        torso: maps observations `[..., *obs_shape]` to features `[..., width]`, one each for
            actor and critics; for continuous actions it must also read observations with the
            action appended. By default the one that the config names.

    Raises:
        ValueError: if the torso cannot read the observations or does not return features, or
            actions are neither discrete nor a vector in [-1, 1]. So does `init`, if `hypers` are
            those of the other kind of actions.
    """
    networks.obs_shape(env.observation_space(env.default_params))  # raises for tables
    features = torsos.torso_for(config, env, torso)
    discrete = networks.is_discrete(env)
    actions = (DiscreteActions if discrete else ContinuousActions)(features, env)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        if isinstance(hypers, DiscreteHypers) != discrete:
            wanted = "DiscreteHypers, for discrete" if discrete else "Hypers, for continuous"
            raise ValueError(
                f"hypers: {type(hypers).__name__} is not valid; it must be {wanted} actions"
            )
        params_key, env_key, warmup_key, key = jax.random.split(key, 4)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs)
        log_alpha = jnp.log(jnp.asarray(hypers.alpha_start, jnp.float32))
        actor_key, critic_key = jax.random.split(params_key)
        actor = actions.actor.init(actor_key, interaction.obs)
        critic = actions.critics.init(critic_key, interaction.obs)
        params = Params(actor, critic, log_alpha)
        interaction, replay = warm_up(
            warmup_key, env, task.env_params, interaction, config, hypers.gamma
        )
        return State(
            params=params,
            target_params=params.critic,
            opt_state=init_each(params),
            moments=warmup_moments(replay, config),
            replay=replay,
            interaction=interaction,
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        """Collect transitions; their `extras` are the actions as `log_prob` reads them."""

        def explore(memory, obs, first, key):
            obs = normalize_obs(state.moments, obs)
            action, extras = jax.lax.stop_gradient(actions.sample(state.params.actor, obs, key))
            return action, memory, extras

        key, rollout_key = jax.random.split(state.key)
        interaction, experience = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma,
        )  # fmt: skip
        return state._replace(interaction=interaction, key=key), experience

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        seen, moments = experience.transitions, state.moments
        replay = state.replay.write(steps_of(seen))
        moments = None if moments is None else advance(moments, seen.obs)

        def step(carry: tuple, key: jax.Array):
            params, target_params, opt_state = carry
            draw_key, learn_key = jax.random.split(key)
            batch = draw_normalized(draw_key, replay, moments, config, hypers)
            params, target_params, opt_state, metrics = learn_from_batch(
                actions, params, target_params, opt_state, batch, learn_key, hypers
            )
            return (params, target_params, opt_state), metrics

        key, learn_key = jax.random.split(state.key)
        (params, target_params, opt_state), metrics = jax.lax.scan(
            step,
            (state.params, state.target_params, state.opt_state),
            jax.random.split(learn_key, config.num_batches),
        )
        metrics = count_steps(state, config) | experience.episodes | jax.tree.map(jnp.mean, metrics)
        state = state._replace(
            params=params,
            target_params=target_params,
            opt_state=opt_state,
            moments=moments,
            replay=replay,
            key=key,
            step=state.step + 1,
        )
        return state, metrics

    def policy(state: State) -> Policy:
        return Policy(state.params.actor, state.moments)

    def act(policy: Policy, memory, obs, first, key, greedy: bool):
        obs = normalize_obs(policy.moments, obs)
        if greedy:
            return actions.mode(policy.actor, obs), memory
        return actions.sample(policy.actor, obs, key)[0], memory

    def log_prob(state: State, experience: Experience) -> tuple[jax.Array, Metrics]:
        seen = experience.transitions
        obs = normalize_obs(state.moments, seen.obs)
        log_prob, entropy = actions.log_prob(state.params.actor, obs, seen.extras)
        return log_prob, {"entropy": entropy}

    return Algorithm(
        config, init, collect_experience, learn, policy, act,
        vital=vital_losses("critic_loss", "actor_loss"), log_prob=log_prob,
        num_envs=config.num_envs, steps_per_update=config.steps_per_update,
        warmup_steps=config.warmup_steps, in_place=("replay",),
        differentiable=("params", "target_params", "opt_state"), made_of=part_names(env, torso),
    )  # fmt: skip
