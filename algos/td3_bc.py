"""TD3+BC: TD3 on a dataset, whose policy also imitates (Fujimoto and Gu 2021, arXiv 2106.06860).

The policy maximises the critic's value and stays near the dataset's actions. Values are divided by
their mean size, so that one weight α suits all scales of rewards. `rebrac.py` is a fork: another
loss of the policy, and a penalty in the critics' targets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from algos.td3 import Learned, Params, add_noise, improve
from purejaxrl.algorithm import Algorithm, Metrics, Task, no_steps, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, policies, torsos
from purejaxrl.parts.critics import ContinuousCritics
from purejaxrl.parts.dataset import observation_moments
from purejaxrl.parts.normalize import Moments, normalize_obs
from purejaxrl.parts.optimizers import init_each
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    batch_size: int = 256
    """Transitions in a batch."""
    policy_delay: int = 2
    """Steps of the critics in an update; the policy and the target networks take one."""
    torso: networks.TorsoKind = "mlp"
    """Kind of torso; actor and critics each have their own."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "relu"
    """Nonlinearity of the torso."""
    critic_norm: bool = False
    """Normalise the layers of the critics."""
    normalize_obs: bool = True
    """Standardise observations by the dataset's moments."""

    def __post_init__(self):
        require_count(self, "batch_size", "policy_delay")
        networks.check_network(self)


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    dataset: Any = None
    """What to learn from: a `Dataset`."""
    actor_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size of the actor."""
    critic_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size of the critics."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step."""
    alpha: float = hyper(2.5, at_least=0)
    """Weight of values beside imitation in the policy's loss; 0 is behaviour cloning."""
    target_noise: float = hyper(0.2, at_least=0)
    """Standard deviation of the noise on the target policy's actions."""
    target_noise_clip: float = hyper(0.5, at_least=0, infinite=True)
    """Bound of that noise."""
    target_rate: float = hyper(0.005, above=0, at_most=1)
    """How far the target networks move with each step of the policy."""


class State(NamedTuple):
    """An agent that learns from a dataset."""

    params: Params
    target_params: Params  # of the target networks
    opt_state: Params
    moments: Moments | None  # of the dataset's observations, where they are normalised
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


class Drawn(NamedTuple):
    """Transitions of a batch, and the actions that followed them, `[..., batch_size, ...]`."""

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    next_obs: jax.Array
    next_action: jax.Array  # the dataset's
    has_next: jax.Array  # bool; the last step of an episode has no next action


class ActorInputs(NamedTuple):
    """What the policy's loss reads."""

    action: jax.Array  # the policy's, [batch_size, num_dims]
    data_action: jax.Array  # the dataset's
    q: jax.Array  # both critics' values of the policy's action, [2, batch_size]


class Following(NamedTuple):
    """What a penalty reads of the steps that follow those of a batch."""

    action: jax.Array  # the target policy's, [batch_size, num_dims]
    data_action: jax.Array  # the dataset's
    has_next: jax.Array  # bool [batch_size]


ActorLoss = Callable[[ActorInputs, Any], jax.Array]
"""`(inputs, hypers) -> loss []`."""
Penalty = Callable[[Following, Any], jax.Array]
"""`(following, hypers) -> penalty [batch_size]`, subtracted from the value of the next state."""


def imitate(x: ActorInputs, hypers: Hypers) -> jax.Array:
    """Compute -λ Q + (π(s) - a)² with λ = α / mean |Q| (equations 3 and 4)."""
    q = x.q[0]
    scale = hypers.alpha / (jax.lax.stop_gradient(jnp.abs(q).mean()) + 1e-8)
    return -scale * q.mean() + ((x.action - x.data_action) ** 2).mean()


def no_penalty(following: Following, hypers: Any) -> jax.Array:
    """Return 0 for every transition."""
    return jnp.zeros(following.has_next.shape)


def make(
    config: Config,
    env: Any,
    torso: nn.Module | None = None,
    actor_loss: ActorLoss = imitate,
    penalty: Penalty = no_penalty,
) -> Algorithm:
    """Make TD3+BC for the environment that a dataset was recorded in.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        torso: maps observations `[..., *obs_shape]`, and observations with the action appended, to
            features `[..., width]`, one each for actor and critics; by default the one that the
            config names. Only that one can have `critic_norm`.
        actor_loss: the loss of the policy.
        penalty: a penalty in the critics' targets.

    Raises:
        ValueError: if there are both a torso and `critic_norm`, the torso cannot read the
            observations or does not return features, actions are not a vector in [-1, 1], or
            observations are not vectors.
    """
    both = torso is not None and config.critic_norm
    require(not both, config, "critic_norm", "False where a torso is given, which has its own")
    pi = policies.Deterministic(env, torsos.torso_for(config, env, torso))
    under = torso or networks.build_torso(
        config.torso, config.hidden, config.activation, config.critic_norm
    )
    critics = ContinuousCritics(env, under)

    def policy(state: State) -> policies.Fitted:
        return policies.Fitted(state.params.actor, state.moments)

    log_prob = policies.log_prob_by(pi, policy)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        actor_key, critic_key, key = jax.random.split(key, 3)
        obs = hypers.dataset.steps.obs[:1]
        params = Params(pi.init(actor_key, obs), critics.init(critic_key, obs))
        return State(
            params=params,
            target_params=params,
            opt_state=init_each(params),
            moments=observation_moments(hypers.dataset, config.normalize_obs),
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def draw(state: State, hypers: Hypers) -> tuple[State, Drawn]:
        """Draw the batches of an update, `[policy_delay, batch_size]`."""
        key, draw_key = jax.random.split(state.key)
        places = jax.vmap(lambda key: hypers.dataset.draw(key, config.batch_size))(
            jax.random.split(draw_key, config.policy_delay)
        )
        batch = hypers.dataset.read(places, hypers.gamma)
        next_action, has_next = hypers.dataset.next_actions(places)
        drawn = Drawn(**batch._asdict(), next_action=next_action, has_next=has_next)
        return state._replace(key=key), drawn

    def normalize(moments: Moments | None, batch: Drawn) -> Drawn:
        return batch._replace(
            obs=normalize_obs(moments, batch.obs), next_obs=normalize_obs(moments, batch.next_obs)
        )

    def targets(target_params: Params, batch: Drawn, key: jax.Array, hypers: Hypers) -> jax.Array:
        """Compute what both critics' values of the actions taken should be, `[batch_size]`."""
        action = pi.mode(target_params.actor, batch.next_obs)
        action = add_noise(key, action, hypers.target_noise, hypers.target_noise_clip)
        value = critics.q(target_params.critic, batch.next_obs, action).min(0)
        following = Following(action, batch.next_action, batch.has_next)
        return batch.reward + batch.discount * (value - penalty(following, hypers))

    def learn(state: State, hypers: Hypers, drawn: Drawn) -> tuple[State, Metrics]:
        key, learn_key = jax.random.split(state.key)
        noise_keys = jax.random.split(learn_key, config.policy_delay)

        def read(target_params: Params, x: tuple[Drawn, jax.Array]) -> tuple[Drawn, jax.Array]:
            batch, noise_key = x
            return batch, targets(target_params, batch, noise_key, hypers)

        def policy_loss(actor_params: Any, critic_params: Any, batch: Drawn) -> jax.Array:
            action = pi.mode(actor_params, batch.obs)
            q = critics.q(critic_params, batch.obs, action)
            return actor_loss(ActorInputs(action, batch.action, q), hypers)

        learned = Learned(state.params, state.target_params, state.opt_state)
        inputs = normalize(state.moments, drawn), noise_keys
        learned, metrics = improve(learned, inputs, hypers, critics, read, policy_loss)
        metrics = jax.tree.map(jnp.mean, metrics) | no_steps()
        return state._replace(**learned._asdict(), key=key, step=state.step + 1), metrics

    return Algorithm(
        config, init, draw, learn, policy, policies.act_by(pi),
        vital=vital_losses("critic_loss", "actor_loss"), log_prob=log_prob, steps_per_update=0,
        made_of=part_names(env, torso, actor_loss, penalty),
    )  # fmt: skip
