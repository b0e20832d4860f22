"""Parallelised Q-network (Gallici et al. 2025, ICLR; arXiv 2407.04811).

Q-learning without a replay buffer and without a target network. An agent acts ε-greedily in many
environments at a time, computes Q(λ) targets from the rollout, and learns from it in shuffled
minibatches. Layer normalisation keeps the values from diverging.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, age_of, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, optimizers, torsos
from purejaxrl.parts.action_values import epsilon_greedy, epsilon_of, of_action
from purejaxrl.parts.minibatches import minibatch_epochs
from purejaxrl.parts.rollout import (
    Experience,
    Interaction,
    Transition,
    collect,
    estimate_values,
)
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    num_envs: int = 32
    """Environments that one agent acts in at a time."""
    num_steps: int = 64
    """Steps in each environment between updates."""
    num_epochs: int = 4
    """Passes over the experience of one update."""
    num_minibatches: int = 16
    """Gradient steps per pass; divides num_envs * num_steps."""
    torso: networks.TorsoKind = "mlp"
    """Kind of torso of the action values; tables have none."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "relu"
    """Nonlinearity of the torso."""
    layer_norm: bool = True
    """Normalise the layers of the torso."""

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


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    learning_rate: float = hyper(1e-4, at_least=0)
    """RAdam's step size at the start of training."""
    final_rate_fraction: float = hyper(0.0, at_least=0)
    """Fraction of learning_rate at the end of training, reached linearly; 1 keeps it constant."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step."""
    q_lambda: float = hyper(0.95, at_least=0, at_most=1)
    """λ, the weight of longer returns in the targets; 0 for one-step returns."""
    epsilon_start: float = hyper(1.0, at_least=0, at_most=1)
    """ε, the probability of a random action, at the first update."""
    epsilon_end: float = hyper(0.2, at_least=0, at_most=1)
    """ε at the end of exploration."""
    exploration: float = hyper(0.2, above=0)
    """Fraction of the updates over which ε falls, linearly."""
    reward_scale: float = hyper(0.1, above=0)
    """Rewards are multiplied by this before values are learned from them."""
    max_grad_norm: float = hyper(10.0, above=0, infinite=True)
    """Global norm to which gradients are clipped; inf for no clipping."""


class State(NamedTuple):
    """An agent on a level."""

    params: Any
    opt_state: Any
    interaction: Interaction
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


class Minibatch(NamedTuple):  # noqa: D101
    obs: Any
    action: jax.Array
    target: jax.Array


def q_lambda(seen: Transition, last_value: jax.Array, hypers: Hypers) -> jax.Array:
    r"""Compute the targets of Peng's Q(λ), `[num_steps, num_envs]`.

    $G_t = r_t + \gamma [(1 - \lambda) \max_a Q(s'_t, a) + \lambda G_{t+1}]$: the λ-returns of the
    highest values. A terminated step ends in its reward, a truncated one in the value of its final
    observation.

    Args:
        seen: the rollout; its `extras` are the highest values of the observations acted on.
        last_value: value of the observation after the last step, `[num_envs]`.
        hypers: discount, λ and the scale of rewards.
    """
    seen = seen._replace(reward=hypers.reward_scale * seen.reward)
    found = estimate_values(seen, seen.extras, last_value, hypers.gamma, hypers.q_lambda)
    return found.target


def optimizer(hypers: Hypers, age: jax.Array) -> optax.GradientTransformation:
    """Make RAdam with clipped gradients and a step size that is annealed with the agent's age."""
    rate = hypers.learning_rate * (1 - age * (1 - hypers.final_rate_fraction))
    return optax.chain(optimizers.clip_by_global_norm(hypers.max_grad_norm), optax.radam(rate))


def make(config: Config, env: Any, torso: nn.Module | None = None) -> Algorithm:
    """Make PQN for a gymnax environment with discrete actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        torso: maps observations `[..., *obs_shape]` to features `[..., width]`, for the action
            values; by default a table, or the torso that the config names.

    Raises:
        ValueError: if the torso cannot read the observations or does not return features, or
            actions are not discrete.
    """
    space = env.observation_space(env.default_params)
    num_actions = networks.num_actions(env.action_space(env.default_params))
    features = torsos.torso_for(config, env, torso)
    network = networks.readout(space, features, num_actions)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        params_key, env_key, key = jax.random.split(key, 3)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs)
        params = network.init(params_key, interaction.obs)
        return State(
            params=params,
            opt_state=optimizer(hypers, jnp.float32(0)).init(params),
            interaction=interaction,
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        """Collect transitions; their `extras` are the highest values of the observations."""
        epsilon = epsilon_of(state, hypers)

        def explore(memory, obs, first, key):
            q = network.apply(state.params, obs)
            return epsilon_greedy(key, q, epsilon), memory, q.max(-1)

        def final_value(memory, obs):
            return network.apply(state.params, obs).max(-1)

        key, rollout_key = jax.random.split(state.key)
        interaction, experience = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma, final_value=final_value,
        )  # fmt: skip
        return state._replace(interaction=interaction, key=key), experience

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        seen = experience.transitions
        last_value = network.apply(state.params, state.interaction.obs).max(-1)
        batch = Minibatch(seen.obs, seen.action, q_lambda(seen, last_value, hypers))
        batch = jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), batch)
        radam = optimizer(hypers, age_of(state))

        def descend(carry: tuple, batch: Minibatch):
            params, opt_state = carry

            def loss(params: Any) -> tuple[jax.Array, Metrics]:
                q = of_action(network.apply(params, batch.obs), batch.action)
                value = 0.5 * ((q - batch.target) ** 2).mean()
                return value, {"loss": value, "q": q.mean()}

            grads, metrics = jax.grad(loss, has_aux=True)(params)
            updates, opt_state = radam.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        key, shuffle_key = jax.random.split(state.key)
        (params, opt_state), metrics = minibatch_epochs(
            shuffle_key, descend, (state.params, state.opt_state), batch,
            config.num_epochs, config.num_minibatches,
        )  # fmt: skip
        metrics = jax.tree.map(jnp.mean, metrics) | experience.episodes
        metrics |= {
            "env_steps": jnp.int32(config.batch_size),
            "epsilon": epsilon_of(state, hypers),
        }
        state = state._replace(params=params, opt_state=opt_state, key=key, step=state.step + 1)
        return state, metrics

    def act(policy: Any, memory, obs, first, key, greedy: bool):
        return network.apply(policy, obs).argmax(-1).astype(jnp.int32), memory

    return Algorithm(
        config, init, collect_experience, learn, lambda state: state.params, act,
        vital=vital_losses("loss"), num_envs=config.num_envs,
        steps_per_update=config.batch_size, made_of=part_names(env, torso),
    )  # fmt: skip
