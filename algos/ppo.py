"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

The defaults are PureJaxRL's. Differences from it: a truncated episode bootstraps from its final
observation, and the critic sees a rollout once, after it, rather than at every step of it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task
from purejaxrl.identity import part_name
from purejaxrl.parts import networks, optimizers
from purejaxrl.parts.minibatches import minibatch_epochs
from purejaxrl.parts.normalize import Moments, Normalizer, advance_normalizer, normalize_obs
from purejaxrl.parts.returns import Episode, Estimates, generalized_advantage, next_values
from purejaxrl.parts.rollout import Transition, collect, reset
from purejaxrl.validation import hyper, require, require_choice, require_count


@dataclass(frozen=True)
class Config:
    """What decides a shape or a length. Static."""

    num_envs: int = 4
    """Environments that one agent acts in at a time."""
    num_steps: int = 128
    """Steps in each environment between updates."""
    num_epochs: int = 4
    """Passes over the experience of one update."""
    num_minibatches: int = 4
    """Gradient steps per pass; divides num_envs * num_steps."""
    torso: networks.TorsoKind = "mlp"
    """Network under the actor's and the critic's head (each has its own)."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "tanh"
    """Nonlinearity of the torso."""
    normalize_obs: bool = False
    """Standardise observations by their running moments."""
    normalize_reward: bool = False
    """Divide rewards by the running deviation of their discounted return."""

    @property
    def batch_size(self) -> int:
        """Environment steps per update."""
        return self.num_envs * self.num_steps

    def __post_init__(self):
        require_count(self, "num_envs", "num_steps", "num_epochs", "num_minibatches")
        require_choice(self, "torso", get_args(networks.TorsoKind))
        require_choice(self, "activation", get_args(networks.Activation))
        require(
            self.batch_size % self.num_minibatches == 0,
            self,
            "num_minibatches",
            f"a divisor of num_envs * num_steps = {self.batch_size}",
        )
        require(
            bool(self.hidden) and min(self.hidden) >= 1, self, "hidden", "one or more widths >= 1"
        )


class Hypers(struct.PyTreeNode):
    """What training can be vmapped, swept or meta-learned over. Traced."""

    learning_rate: float = hyper(2.5e-4, at_least=0)
    """Adam's step size at the start of life."""
    learning_rate_end: float = hyper(0.0, at_least=0)
    """Fraction of learning_rate left at the end of life, reached linearly; 1 keeps it constant."""
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
    max_grad_norm: float = hyper(0.5, above=0)
    """Global norm to which gradients are clipped."""


class Params(NamedTuple):  # noqa: D101
    actor: Any
    critic: Any


class State(NamedTuple):
    """An agent on a level. Environment leaves are `[num_envs, ...]`."""

    params: Params
    opt_state: Any
    env_state: Any
    obs: jax.Array
    first: jax.Array
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done
    episode: Episode
    normalizer: Normalizer


class Policy(NamedTuple):
    """What acting needs."""

    actor: Any
    obs_moments: Moments | None


class Trajectory(NamedTuple):
    """What one update learns from: leaves `[num_steps, num_envs, ...]`."""

    transitions: Transition  # observations and rewards as the networks see them
    last_obs: jax.Array
    episodes: Metrics


class Minibatch(NamedTuple):  # noqa: D101
    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


def policy_loss(log_ratio: jax.Array, advantage: jax.Array, hypers: Hypers) -> jax.Array:
    """Clipped surrogate objective (eq. 7), negated: `[...]` to `[...]`. The line a fork edits."""
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1 - hypers.clip_eps, 1 + hypers.clip_eps)
    return -jnp.minimum(ratio * advantage, clipped * advantage)


def value_loss(value: jax.Array, old_value: jax.Array, target: jax.Array, eps: jax.Array):
    """Squared error, pessimistic about values that left the old ones by more than eps."""
    clipped = old_value + jnp.clip(value - old_value, -eps, eps)
    return 0.5 * jnp.maximum((value - target) ** 2, (clipped - target) ** 2)


def total_loss(pi, value: jax.Array, batch: Minibatch, hypers: Hypers, policy_loss):
    """Weigh policy loss, value loss and entropy bonus; returns (loss, metrics).

    Args:
        pi: distribution over the minibatch's actions under the parameters being trained.
        value: the values under them, shaped like `batch.value`.
        batch: the minibatch.
        hypers: weights.
        policy_loss: `(log_ratio, advantage, hypers) -> loss`, elementwise.
    """
    log_ratio = pi.log_prob(batch.action) - batch.log_prob
    advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
    metrics = {
        "policy_loss": policy_loss(log_ratio, advantage, hypers).mean(),
        "value_loss": value_loss(value, batch.value, batch.target, hypers.value_clip_eps).mean(),
        "entropy": pi.entropy().mean(),
        "approx_kl": (jnp.exp(log_ratio) - 1 - log_ratio).mean(),
    }
    total = (
        metrics["policy_loss"]
        + hypers.value_coef * metrics["value_loss"]
        - hypers.entropy_coef * metrics["entropy"]
    )
    return total, metrics


def optimizer(hypers: Hypers, task: Task, step: jax.Array) -> optax.GradientTransformation:
    """Adam with clipped gradients, its step size annealed by age; free to rebuild when traced."""
    age = jnp.minimum(step / task.horizon, 1.0)
    rate = hypers.learning_rate * (1 - age * (1 - hypers.learning_rate_end))
    return optax.chain(optimizers.clip_by_global_norm(hypers.max_grad_norm), optimizers.adam(rate))


def optimize(loss, state: Any, hypers: Hypers, batch: Any, config: Config) -> tuple[Any, Metrics]:
    """Descend `loss(params, minibatch, hypers)` over epochs of minibatches; one update older."""
    adam = optimizer(hypers, state.task, state.step)

    def descend(carry, minibatch):
        params, opt_state = carry
        grads, metrics = jax.grad(loss, has_aux=True)(params, minibatch, hypers)
        updates, opt_state = adam.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), metrics

    key, shuffle_key = jax.random.split(state.key)
    (params, opt_state), metrics = minibatch_epochs(
        shuffle_key, descend, (state.params, state.opt_state), batch,
        config.num_epochs, config.num_minibatches,
    )  # fmt: skip
    state = state._replace(params=params, opt_state=opt_state, key=key, step=state.step + 1)
    return state, jax.tree.map(jnp.mean, metrics)


def make(config: Config, env: Any, policy_loss=policy_loss) -> Algorithm:
    """PPO on a gymnax environment with discrete or continuous actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        policy_loss: `(log_ratio, advantage, hypers) -> loss`, elementwise.

    Raises:
        ValueError: if the torso does not suit the observations, or the action space is not one.
    """
    obs_shape = env.observation_space(env.default_params).shape
    networks.check_torso(config.torso, obs_shape)
    torso = networks.torso(config.torso, config.hidden, config.activation)
    actor = networks.Actor(torso, env.action_space(env.default_params))
    critic = networks.Critic(torso)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        actor_key, critic_key, env_key, key = jax.random.split(key, 4)
        obs, env_state = reset(env_key, env, task.env_params, config.num_envs)
        params = Params(actor.init(actor_key, obs), critic.init(critic_key, obs))
        step = jnp.int32(0)
        return State(
            params=params,
            opt_state=optimizer(hypers, task, step).init(params),
            env_state=env_state,
            obs=obs,
            first=jnp.ones(config.num_envs, bool),
            task=task,
            key=key,
            step=step,
            episode=Episode.start(config.num_envs),
            normalizer=Normalizer.start(
                config.normalize_obs, config.normalize_reward, obs_shape, config.num_envs
            ),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Trajectory]:
        def explore(memory, obs, first, key):
            pi = actor.apply(state.params.actor, normalize_obs(state.normalizer.obs, obs))
            action, log_prob = pi.sample_and_log_prob(seed=key)
            return memory, jax.lax.stop_gradient(action), jax.lax.stop_gradient(log_prob)

        def final_value(memory, obs):
            value = critic.apply(state.params.critic, normalize_obs(state.normalizer.obs, obs))
            return jax.lax.stop_gradient(value)

        after, (seen, episodes) = collect(
            state, env, explore, final_value, config.num_steps, hypers.gamma
        )
        done = seen.terminated | seen.truncated
        normalizer, reward = advance_normalizer(
            state.normalizer, seen.obs, seen.reward, done, hypers.gamma
        )
        seen = seen._replace(
            obs=normalize_obs(state.normalizer.obs, seen.obs),
            final_obs=normalize_obs(state.normalizer.obs, seen.final_obs),
            reward=reward,
        )
        last_obs = normalize_obs(state.normalizer.obs, after.obs)
        return after._replace(normalizer=normalizer), Trajectory(seen, last_obs, episodes)

    def loss(params: Params, batch: Minibatch, hypers: Hypers) -> tuple[jax.Array, Metrics]:
        pi = actor.apply(params.actor, batch.obs)
        value = critic.apply(params.critic, batch.obs)
        return total_loss(pi, value, batch, hypers, policy_loss)

    def estimate(state: State, hypers: Hypers, trajectory: Trajectory) -> Estimates:
        seen = trajectory.transitions
        value = critic.apply(state.params.critic, seen.obs)
        last_value = critic.apply(state.params.critic, trajectory.last_obs)
        advantage = generalized_advantage(
            seen.reward,
            value,
            next_values(value, last_value, seen.final_value, seen.truncated),
            seen.terminated,
            seen.truncated,
            hypers.gamma,
            hypers.gae_lambda,
        )
        return Estimates(value, advantage)

    def learn(state: State, hypers: Hypers, trajectory: Trajectory) -> tuple[State, Metrics]:
        seen, found = trajectory.transitions, estimate(state, hypers, trajectory)
        batch = Minibatch(
            seen.obs, seen.action, seen.extras, found.value, found.advantage, found.target
        )
        batch = jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), batch)
        state, metrics = optimize(loss, state, hypers, batch, config)
        env_steps = {"env_steps": jnp.int32(config.batch_size)}
        return state, env_steps | trajectory.episodes | metrics

    def policy(state: State) -> Policy:
        return Policy(state.params.actor, state.normalizer.obs)

    def act(policy: Policy, memory, obs, first, key, greedy: bool):
        pi = actor.apply(policy.actor, normalize_obs(policy.obs_moments, obs))
        return (pi.mode() if greedy else pi.sample(seed=key)), memory

    def log_prob(state: State, trajectory: Trajectory) -> tuple[jax.Array, Metrics]:
        seen = trajectory.transitions
        pi = actor.apply(state.params.actor, seen.obs)
        return pi.log_prob(seen.action), {"entropy": pi.entropy().mean()}

    def vital(state: State, metrics: Metrics):
        return state.params, metrics["policy_loss"], metrics["value_loss"]

    made_of = part_name(env), part_name(policy_loss)
    return Algorithm(
        config, init, collect_experience, learn, policy, act,
        vital=vital, log_prob=log_prob, estimate=estimate, made_of=made_of,
    )  # fmt: skip
