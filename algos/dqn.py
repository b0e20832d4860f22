"""Deep Q-learning (Mnih et al. 2015, Nature).

An agent acts ε-greedily and keeps its steps in a replay buffer. It learns action values from random
batches of them, towards targets of a slow copy of its network. Double Q-learning (van Hasselt et
al. 2016), dueling heads (Wang et al. 2016) and n-step returns (Sutton 1988) are settings.

Three things differ from Mnih et al. The loss is the squared error; theirs is linear beyond an error
of 1. The optimizer is Adam, not RMSProp. Double Q-learning is on by default. All other settings
default to those of PureJaxRL's `dqn.py`, which has the same loss. Its Adam has an ε of 1e-8 (here
1e-5), and its weights are not orthogonal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, optimizers, torsos
from purejaxrl.parts.action_values import epsilon_greedy, epsilon_of, of_action
from purejaxrl.parts.replay import Replay
from purejaxrl.parts.rollout import Experience, Interaction, collect
from purejaxrl.parts.targets import track
from purejaxrl.parts.transitions import (
    Batch,
    check_replay,
    count_steps,
    draw_batch,
    steps_of,
    warm_up,
)
from purejaxrl.validation import hyper, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    num_envs: int = 10
    """Environments that one agent acts in at a time."""
    num_steps: int = 1
    """Steps in each environment between updates."""
    capacity: int = 10_000
    """Steps in the replay buffer; a multiple of num_envs * num_steps."""
    warmup_steps: int = 10_000
    """Random environment steps before the first update; a multiple of num_envs * num_steps."""
    batch_size: int = 128
    """Transitions in a batch."""
    num_batches: int = 1
    """Batches of an update, one gradient step each."""
    target_every: int = 50
    """Gradient steps between two moves of the target network."""
    num_returns: int = 1
    """n of the n-step returns."""
    double: bool = True
    """Double Q-learning: the online network selects the action, the target network values it."""
    dueling: bool = False
    """Learn the value of a state and the advantages of its actions, which are added."""
    torso: networks.TorsoKind = "mlp"
    """Kind of torso of the action values; tables have none."""
    hidden: tuple[int, ...] = (120, 84)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "relu"
    """Nonlinearity of the torso."""

    @property
    def steps_per_update(self) -> int:
        """Environment steps per update."""
        return self.num_envs * self.num_steps

    def __post_init__(self):
        check_replay(self)
        require_count(self, "target_every", "num_returns")
        networks.check_network(self)


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped, swept or meta-learned. Traced."""

    learning_rate: float = hyper(2.5e-4, at_least=0)
    """Adam's step size."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step."""
    epsilon_start: float = hyper(1.0, at_least=0, at_most=1)
    """ε, the probability of a random action, at the first update."""
    epsilon_end: float = hyper(0.05, at_least=0, at_most=1)
    """ε at the end of exploration."""
    exploration: float = hyper(0.5, above=0)
    """Fraction of the updates over which ε falls, linearly."""
    target_rate: float = hyper(1.0, above=0, at_most=1)
    """Step size of the target network: 1 copies the online one, less averages (target_every=1)."""
    max_grad_norm: float = hyper(jnp.inf, above=0, infinite=True)
    """Global norm to which gradients are clipped; inf for no clipping."""


class State(NamedTuple):
    """An agent on a level."""

    params: Any
    target_params: Any  # of the target network
    opt_state: Any
    replay: Replay
    interaction: Interaction
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


class LossInputs(NamedTuple):
    """What a loss reads, float32 `[batch_size]`."""

    q: jax.Array  # value of the action taken
    target: jax.Array


Loss = Callable[[LossInputs, Hypers], jax.Array]
"""`(inputs, hypers) -> loss`, elementwise: `[...]` to `[...]`."""


def squared_error(x: LossInputs, hypers: Hypers) -> jax.Array:
    """Compute the squared error of a value. A fork passes another loss to `make`."""
    return (x.q - x.target) ** 2


def add_up(outputs: jax.Array) -> jax.Array:
    """Add a state's value and its actions' advantages, minus their mean (Wang et al. 2016, eq. 9).

    Args:
        outputs: value and advantages, `[..., 1 + num_actions]`.
    """
    value, advantage = outputs[..., :1], outputs[..., 1:]
    return value + advantage - advantage.mean(-1, keepdims=True)


def make(
    config: Config,
    env: Any,
    loss: Loss = squared_error,
    torso: nn.Module | None = None,
) -> Algorithm:
    """Make DQN for a gymnax environment with discrete actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        loss: the loss of an action value.
        torso: maps observations `[..., *obs_shape]` to features `[..., width]`, for the action
            values; by default a table, or the torso that the config names.

    Raises:
        ValueError: if the torso cannot read the observations or does not return features, or
            actions are not discrete.
    """
    space = env.observation_space(env.default_params)
    num_actions = networks.num_actions(env.action_space(env.default_params))
    features = torsos.torso_for(config, env, torso)
    network = networks.readout(space, features, num_actions + config.dueling)

    def action_values(params: Any, obs: Any) -> jax.Array:
        outputs = network.apply(params, obs)
        return add_up(outputs) if config.dueling else outputs

    def optimizer(hypers: Hypers) -> optax.GradientTransformation:
        clip = optimizers.clip_by_global_norm(hypers.max_grad_norm)
        return optax.chain(clip, optimizers.adam(hypers.learning_rate))

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        params_key, env_key, warmup_key, key = jax.random.split(key, 4)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs)
        params = network.init(params_key, interaction.obs)
        interaction, replay = warm_up(
            warmup_key, env, task.env_params, interaction, config, hypers.gamma
        )
        return State(
            params=params,
            target_params=params,
            opt_state=optimizer(hypers).init(params),
            replay=replay,
            interaction=interaction,
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        epsilon = epsilon_of(state, hypers)

        def explore(memory, obs, first, key):
            return epsilon_greedy(key, action_values(state.params, obs), epsilon), memory, ()

        key, rollout_key = jax.random.split(state.key)
        interaction, experience = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma,
        )  # fmt: skip
        return state._replace(interaction=interaction, key=key), experience

    def targets(params: Any, target_params: Any, batch: Batch) -> jax.Array:
        """Compute what the values of the actions taken should be, `[batch_size]`."""
        next_q = action_values(target_params, batch.next_obs)
        chooser = action_values(params, batch.next_obs) if config.double else next_q
        best = chooser.argmax(-1)
        return batch.reward + batch.discount * of_action(next_q, best)

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        replay = state.replay.write(steps_of(experience.transitions))
        adam = optimizer(hypers)

        def descend(carry: tuple, inputs: tuple[jax.Array, jax.Array]):
            (params, target_params, opt_state), (key, i) = carry, inputs
            batch = draw_batch(
                key, replay, config.batch_size, hypers.gamma,
                num_envs=config.num_envs, num_steps=config.num_returns,
            )  # fmt: skip
            target = targets(params, target_params, batch)

            def mean_loss(params: Any) -> tuple[jax.Array, Metrics]:
                q = of_action(action_values(params, batch.obs), batch.action)
                value = loss(LossInputs(q, target), hypers).mean()
                return value, {"loss": value, "q": q.mean()}

            grads, metrics = jax.grad(mean_loss, has_aux=True)(params)
            updates, opt_state = adam.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            count = state.step * config.num_batches + i + 1
            target_params = track(
                target_params, params, hypers.target_rate, count, config.target_every
            )
            return (params, target_params, opt_state), metrics

        key, draw_key = jax.random.split(state.key)
        (params, target_params, opt_state), metrics = jax.lax.scan(
            descend,
            (state.params, state.target_params, state.opt_state),
            (jax.random.split(draw_key, config.num_batches), jnp.arange(config.num_batches)),
        )
        metrics = jax.tree.map(jnp.mean, metrics) | experience.episodes
        metrics |= count_steps(state, config) | {"epsilon": epsilon_of(state, hypers)}
        state = state._replace(
            params=params,
            target_params=target_params,
            opt_state=opt_state,
            replay=replay,
            key=key,
            step=state.step + 1,
        )
        return state, metrics

    def act(policy: Any, memory, obs, first, key, greedy: bool):
        return action_values(policy, obs).argmax(-1).astype(jnp.int32), memory

    return Algorithm(
        config, init, collect_experience, learn, lambda state: state.params, act,
        vital=vital_losses("loss"), num_envs=config.num_envs,
        steps_per_update=config.steps_per_update, warmup_steps=config.warmup_steps,
        in_place=("replay",), made_of=part_names(env, loss, torso),
    )  # fmt: skip
