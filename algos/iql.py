"""Implicit Q-learning (Kostrikov et al. 2021, arXiv 2110.06169).

Only actions of the dataset are evaluated. An upper expectile of their values stands for the value
of the best one. The policy imitates the dataset's actions, each weighted by the exponential of its
advantage.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, age_of, no_steps, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, policies, torsos
from purejaxrl.parts.critics import twin_critics
from purejaxrl.parts.dataset import observation_moments
from purejaxrl.parts.normalize import Moments, normalize_obs
from purejaxrl.parts.optimizers import descend, init_each
from purejaxrl.parts.targets import track
from purejaxrl.parts.transitions import Batch
from purejaxrl.validation import hyper, require_count

LARGEST_WEIGHT = 100.0
"""Bound of the weight of an action in the policy's loss."""


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    batch_size: int = 256
    """Transitions in a batch."""
    torso: networks.TorsoKind = "mlp"
    """Kind of torso. Policy, value and critics each have their own; tables have none."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "relu"
    """Nonlinearity of the torso."""
    normalize_obs: bool = True
    """Standardise observations by the dataset's moments; ignored where they index a table."""

    def __post_init__(self):
        require_count(self, "batch_size")
        networks.check_network(self)


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    dataset: Any = None
    """What to learn from: a `Dataset`."""
    learning_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size; the policy's falls to 0 along a cosine."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step."""
    expectile: float = hyper(0.7, above=0, below=1)
    """τ: 0.5 gives the value of the dataset's policy, towards 1 that of its best actions."""
    beta: float = hyper(3.0, at_least=0)
    """Inverse temperature of the advantages that weight the policy's imitation."""
    target_rate: float = hyper(0.005, above=0, at_most=1)
    """How far the target critics move at an update."""


class Params(NamedTuple):
    """An entry for each part that is learned: its parameters, or its optimizer's state."""

    policy: Any
    value: Any
    critic: Any


class State(NamedTuple):
    """An agent that learns from a dataset."""

    params: Params
    target_params: Any  # of the target critics
    opt_state: Params
    moments: Moments | None  # of the dataset's observations, where they are normalised
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


def expectile_loss(error: jax.Array, expectile: jax.Array) -> jax.Array:
    """Compute |τ - 1(u < 0)| u² of errors u (equation 5), elementwise."""
    return jnp.abs(expectile - (error < 0)) * error**2


def imitation_weight(advantage: jax.Array, beta: jax.Array) -> jax.Array:
    """Compute exp(β A), bounded (equation 7), elementwise."""
    return jnp.minimum(jnp.exp(beta * advantage), LARGEST_WEIGHT)


def make(config: Config, env: Any, torso: nn.Module | None = None) -> Algorithm:
    """Make implicit Q-learning for the environment that a dataset was recorded in.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        torso: maps observations `[..., *obs_shape]` (and, for continuous actions, observations with
            the action appended) to features `[..., width]`; by default a table, or the torso that
            the config names.

    Raises:
        ValueError: if the torso cannot read the observations or does not return features, or
            actions are neither discrete nor a vector in [-1, 1].
    """
    features = torsos.torso_for(config, env, torso)
    kind = policies.Categorical if networks.is_discrete(env) else policies.Gaussian
    pi, critic = kind(env, features), twin_critics(env, features)
    value = networks.readout(env.observation_space(env.default_params), features, 1)

    def value_of(params: Any, obs: Any) -> jax.Array:
        return value.apply(params, obs)[..., 0]

    def policy(state: State) -> policies.Fitted:
        return policies.Fitted(state.params.policy, state.moments)

    log_prob = policies.log_prob_by(pi, policy)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        policy_key, value_key, critic_key, key = jax.random.split(key, 4)
        obs = jax.tree.map(lambda x: x[:1], hypers.dataset.steps.obs)
        params = Params(
            pi.init(policy_key, obs), value.init(value_key, obs), critic.init(critic_key, obs)
        )
        return State(
            params=params,
            target_params=params.critic,
            opt_state=init_each(params),
            moments=observation_moments(hypers.dataset, config.normalize_obs),
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def draw(state: State, hypers: Hypers) -> tuple[State, Batch]:
        key, draw_key = jax.random.split(state.key)
        places = hypers.dataset.draw(draw_key, config.batch_size)
        return state._replace(key=key), hypers.dataset.read(places, hypers.gamma)

    def learn(state: State, hypers: Hypers, batch: Batch) -> tuple[State, Metrics]:
        obs = normalize_obs(state.moments, batch.obs)
        next_obs = normalize_obs(state.moments, batch.next_obs)
        policy_rate = hypers.learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * age_of(state)))
        q = critic.q(state.target_params, obs, batch.action).min(0)
        target = batch.reward + batch.discount * value_of(state.params.value, next_obs)

        def value_loss(params: Any) -> tuple[jax.Array, jax.Array]:
            advantage = q - value_of(params, obs)
            return expectile_loss(advantage, hypers.expectile).mean(), advantage

        def critic_loss(params: Any) -> jax.Array:
            error = critic.q(params, obs, batch.action) - target
            return 0.5 * (error**2).mean(-1).sum()

        def policy_loss(params: Any, weight: jax.Array) -> jax.Array:
            return -(weight * pi.log_prob(params, obs, batch.action)).mean()

        with_advantage = jax.value_and_grad(value_loss, has_aux=True)
        (of_value, advantage), value_grads = with_advantage(state.params.value)
        of_critic, critic_grads = jax.value_and_grad(critic_loss)(state.params.critic)
        weight = imitation_weight(advantage, hypers.beta)
        of_policy, policy_grads = jax.value_and_grad(policy_loss)(state.params.policy, weight)

        rate, old, opt = hypers.learning_rate, state.params, state.opt_state
        policy_params, policy_opt = descend(policy_rate, policy_grads, opt.policy, old.policy)
        value_params, value_opt = descend(rate, value_grads, opt.value, old.value)
        critic_params, critic_opt = descend(rate, critic_grads, opt.critic, old.critic)
        state = state._replace(
            params=Params(policy_params, value_params, critic_params),
            target_params=track(state.target_params, critic_params, hypers.target_rate),
            opt_state=Params(policy_opt, value_opt, critic_opt),
            step=state.step + 1,
        )
        losses = {"policy_loss": of_policy, "value_loss": of_value, "critic_loss": of_critic}
        metrics = no_steps() | losses | {"q": q.mean(), "advantage": advantage.mean()}
        return state, metrics

    return Algorithm(
        config, init, draw, learn, policy, policies.act_by(pi),
        vital=vital_losses(*(f"{part}_loss" for part in Params._fields)), log_prob=log_prob,
        steps_per_update=0, made_of=part_names(env, torso),
    )  # fmt: skip
