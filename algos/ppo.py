"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

The defaults are PureJaxRL's; docs/ppo.md lists what differs. The main difference: an episode that a
time limit cuts bootstraps from its final observation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, age_of, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import divergences, networks, optimizers, torsos
from purejaxrl.parts.minibatches import minibatch_epochs
from purejaxrl.parts.normalize import (
    Moments,
    Normalizer,
    normalize_obs,
    normalize_rollout,
    scale_rewards,
)
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.parts.rollout import Experience, Interaction, collect, estimate_values
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    num_envs: int = 4
    """Environments that one agent acts in at a time."""
    num_steps: int = 128
    """Steps in each environment between updates."""
    num_epochs: int = 4
    """Passes over the experience of one update."""
    num_minibatches: int = 4
    """Gradient steps per pass; divides num_envs * num_steps."""
    torso: networks.TorsoKind = "mlp"
    """Kind of torso; actor and critic each have their own."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "tanh"
    """Nonlinearity of the torso."""
    normalize_obs: bool = False
    """Standardise observations by their running moments."""
    normalize_reward: bool = False
    """Divide rewards by the running standard deviation of their discounted return."""

    @property
    def batch_size(self) -> int:
        """Environment steps per update."""
        return self.num_envs * self.num_steps

    def __post_init__(self):
        require_count(self, "num_envs", "num_steps", "num_epochs", "num_minibatches")
        networks.check_network(self)
        require(
            self.batch_size % self.num_minibatches == 0,
            self,
            "num_minibatches",
            f"a divisor of num_envs * num_steps = {self.batch_size}",
        )
        # The advantage of one sample, standardised, is 0.
        require(
            self.batch_size > self.num_minibatches, self, "num_minibatches",
            f"less than num_envs * num_steps = {self.batch_size}",
        )  # fmt: skip


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped, swept or meta-learned. Traced."""

    learning_rate: float = hyper(2.5e-4, at_least=0)
    """Adam's step size at the start of training."""
    final_rate_fraction: float = hyper(0.0, at_least=0)
    """Fraction of learning_rate at the end of training, reached linearly; 1 keeps it constant."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step."""
    gae_lambda: float = hyper(0.95, at_least=0, at_most=1)
    """Decay of the advantage's eligibility trace."""
    clip_eps: float = hyper(0.2, above=0, infinite=True)
    """How far the probability ratio may leave 1 before its gradient vanishes; inf for no clip."""
    value_clip_eps: float = hyper(0.2, above=0, infinite=True)
    """How far the value may leave the old one before its gradient vanishes; inf for no clipping."""
    value_coef: float = hyper(0.5, at_least=0)
    """Weight of the value loss."""
    entropy_coef: float = hyper(0.01, at_least=0)
    """Weight of the entropy bonus."""
    max_grad_norm: float = hyper(0.5, above=0, infinite=True)
    """Global norm to which gradients are clipped; inf for no clipping."""


class Params(NamedTuple):  # noqa: D101
    actor: Any
    critic: Any


class State(NamedTuple):
    """An agent on a level."""

    params: Params
    opt_state: Any
    interaction: Interaction
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done
    normalizer: Normalizer


class Policy(NamedTuple):
    """What acting needs."""

    actor: Any
    obs_moments: Moments | None


class Minibatch(NamedTuple):
    """What the loss reads, leaves `[size, ...]`; recurrent PPO's are `[num_steps, size, ...]`."""

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


class LossInputs(NamedTuple):
    """What a loss of the policy reads."""

    log_ratio: jax.Array  # float32 [...], log of the new over the old probability of the action
    advantage: jax.Array  # float32 [...], standardised over the minibatch
    age: jax.Array  # float32 [] in [0, 1], n/N: the fraction of the agent's updates done


PolicyLoss = Callable[[LossInputs, Hypers], jax.Array]
"""`(inputs, hypers) -> loss`, elementwise: `[...]` to `[...]`."""
Loss = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Metrics]]
"""`(params, minibatch, hypers, age) -> (loss [], metrics)`."""


def policy_loss(x: LossInputs, hypers: Hypers) -> jax.Array:
    """Compute the clipped surrogate loss (eq. 7, negated). A fork passes another to `make`."""
    ratio = jnp.exp(x.log_ratio)
    clipped = jnp.clip(ratio, 1 - hypers.clip_eps, 1 + hypers.clip_eps)
    return -jnp.minimum(ratio * x.advantage, clipped * x.advantage)


def value_loss(
    value: jax.Array, old_value: jax.Array, target: jax.Array, eps: jax.Array
) -> jax.Array:
    """Compute half the squared error of the value or the clipped value, whichever is larger.

    It is not in the paper: Engstrom et al. 2020 (arXiv 2005.12729), code-level optimisation 1.
    """
    clipped = old_value + jnp.clip(value - old_value, -eps, eps)
    return 0.5 * jnp.maximum((value - target) ** 2, (clipped - target) ** 2)


def total_loss(
    pi: networks.Distribution,
    value: jax.Array,
    batch: Minibatch,
    hypers: Hypers,
    age: jax.Array,
    policy_loss: PolicyLoss,
) -> tuple[jax.Array, Metrics]:
    """Add up policy loss, value loss and entropy bonus (eq. 9, negated).

    Advantages are standardised over the minibatch; `approx_kl` is Schulman's unbiased estimate k3.

    Args:
        pi: distribution over actions under the parameters being trained.
        value: values under them, shaped like `batch.value`.
        batch: the minibatch.
        hypers: weights.
        age: fraction of the agent's updates done.
        policy_loss: loss of the policy.

    Returns:
        The loss, float32 [], and its parts.
    """
    log_ratio = pi.log_prob(batch.action) - batch.log_prob
    advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
    metrics = {
        "policy_loss": policy_loss(LossInputs(log_ratio, advantage, age), hypers).mean(),
        "value_loss": value_loss(value, batch.value, batch.target, hypers.value_clip_eps).mean(),
        "entropy": pi.entropy().mean(),
        "approx_kl": divergences.k3(log_ratio).mean(),
    }
    total = (
        metrics["policy_loss"]
        + hypers.value_coef * metrics["value_loss"]
        - hypers.entropy_coef * metrics["entropy"]
    )
    return total, metrics


def optimizer(hypers: Hypers, age: jax.Array) -> optax.GradientTransformation:
    """Make Adam with clipped gradients and a step size that is annealed with the agent's age."""
    rate = hypers.learning_rate * (1 - age * (1 - hypers.final_rate_fraction))
    clip = optimizers.clip_by_global_norm(hypers.max_grad_norm)
    return optax.flatten(optax.chain(clip, optimizers.adam(rate)))  # one vector: fewer operations


def optimize(
    loss: Loss, state: Any, hypers: Hypers, batch: Any, config: Config
) -> tuple[Any, Metrics]:
    """Minimise a loss over epochs of minibatches, and count one update more."""
    age = age_of(state)
    adam = optimizer(hypers, age)

    def gradient_step(carry, minibatch):
        params, opt_state = carry
        grads, metrics = jax.grad(loss, has_aux=True)(params, minibatch, hypers, age)
        updates, opt_state = adam.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), metrics

    key, shuffle_key = jax.random.split(state.key)
    (params, opt_state), metrics = minibatch_epochs(
        shuffle_key, gradient_step, (state.params, state.opt_state), batch,
        config.num_epochs, config.num_minibatches,
    )  # fmt: skip
    state = state._replace(params=params, opt_state=opt_state, key=key, step=state.step + 1)
    return state, jax.tree.map(jnp.mean, metrics)


vital = vital_losses("policy_loss", "value_loss")


def make(
    config: Config,
    env: Any,
    policy_loss: PolicyLoss = policy_loss,
    torso: nn.Module | None = None,
) -> Algorithm:
    """Make PPO for a gymnax environment with discrete or continuous actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        policy_loss: loss of the policy.
        torso: maps observations `[..., *obs_shape]` to features `[..., width]`, one each for
            actor and critic; by default the one that the config names.

    Raises:
        ValueError: if the torso cannot read the observations or does not return features, or
            actions are neither discrete nor a vector.
    """
    action_space = env.action_space(env.default_params)
    networks.check_action_space(action_space, config.normalize_obs)
    obs_shape = networks.obs_shape(env.observation_space(env.default_params))
    features = torsos.torso_for(config, env, torso)
    actor = networks.PolicyNetwork(features, action_space)
    critic = networks.ValueNetwork(features)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        actor_key, critic_key, env_key, key = jax.random.split(key, 4)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs)
        obs = interaction.obs
        params = Params(actor.init(actor_key, obs), critic.init(critic_key, obs))
        return State(
            params=params,
            opt_state=optimizer(hypers, jnp.float32(0)).init(params),
            interaction=interaction,
            task=task,
            key=key,
            step=jnp.int32(0),
            normalizer=Normalizer.start(
                config.normalize_obs, config.normalize_reward, obs_shape, config.num_envs
            ),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        """Collect normalised observations, and rewards as they are.

        `extras` of the experience is the observation after the last step; `extras` of a transition
        is the action's log-probability.
        """

        def explore(memory, obs, first, key):
            pi = actor.apply(state.params.actor, normalize_obs(state.normalizer.obs, obs))
            action, log_prob = pi.sample_and_log_prob(seed=key)
            return jax.lax.stop_gradient(action), memory, jax.lax.stop_gradient(log_prob)

        def final_value(memory, obs):
            value = critic.apply(state.params.critic, normalize_obs(state.normalizer.obs, obs))
            return jax.lax.stop_gradient(value)

        key, rollout_key = jax.random.split(state.key)
        interaction, (transitions, episodes, _) = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma, final_value=final_value,
        )  # fmt: skip
        normalizer, transitions = normalize_rollout(state.normalizer, transitions, hypers.gamma)
        last_obs = normalize_obs(state.normalizer.obs, interaction.obs)
        state = state._replace(interaction=interaction, key=key, normalizer=normalizer)
        return state, Experience(transitions, episodes, last_obs)

    def loss(
        params: Params, batch: Minibatch, hypers: Hypers, age: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        pi = actor.apply(params.actor, batch.obs)
        value = critic.apply(params.critic, batch.obs)
        return total_loss(pi, value, batch, hypers, age, policy_loss)

    def estimate(state: State, hypers: Hypers, experience: Experience) -> ValueEstimates:
        transitions, last_obs = experience.transitions, experience.extras
        reward = scale_rewards(state.normalizer.reward, transitions.reward)
        value = critic.apply(state.params.critic, transitions.obs)
        last_value = critic.apply(state.params.critic, last_obs)
        return estimate_values(
            transitions._replace(reward=reward), value, last_value, hypers.gamma, hypers.gae_lambda
        )

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        transitions, estimates = experience.transitions, estimate(state, hypers, experience)
        batch = Minibatch(
            obs=transitions.obs, action=transitions.action, log_prob=transitions.extras,
            value=estimates.value, advantage=estimates.advantage, target=estimates.target,
        )  # fmt: skip
        batch = jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), batch)
        state, metrics = optimize(loss, state, hypers, batch, config)
        env_steps = {"env_steps": jnp.int32(config.batch_size)}
        return state, env_steps | experience.episodes | metrics

    def policy(state: State) -> Policy:
        return Policy(state.params.actor, state.normalizer.obs)

    def act(policy: Policy, memory, obs, first, key, greedy: bool):
        pi = actor.apply(policy.actor, normalize_obs(policy.obs_moments, obs))
        return (pi.mode() if greedy else pi.sample(seed=key)), memory

    def log_prob(state: State, experience: Experience) -> tuple[jax.Array, Metrics]:
        transitions = experience.transitions
        pi = actor.apply(state.params.actor, transitions.obs)
        return pi.log_prob(transitions.action), {"entropy": pi.entropy().mean()}

    return Algorithm(
        config, init, collect_experience, learn, policy, act,
        vital=vital, log_prob=log_prob, estimate=estimate, num_envs=config.num_envs,
        steps_per_update=config.batch_size, made_of=part_names(env, policy_loss, torso),
    )  # fmt: skip
