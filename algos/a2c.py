"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783), synchronous.

The baseline for learned algorithms, and GROOVE's antagonist. It makes one gradient
step per rollout, with generalised advantages (Schulman et al. 2016, arXiv 1506.02438) and Adam,
where the paper has RMSProp. Where observations index a table, policy and value are tables.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, optimizers, torsos
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.parts.rollout import Experience, Interaction, Transition, collect, estimate_values
from purejaxrl.validation import hyper, require_choice, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    num_envs: int = 64
    """Environments that one agent acts in at a time."""
    num_steps: int = 20
    """Steps in each environment between updates."""
    torso: networks.TorsoKind = "mlp"
    """Kind of torso. Policy and value each have their own; tables have none."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "tanh"
    """Nonlinearity of the torso."""
    optimizer: optimizers.Kind = "adam"
    """Kind of optimizer."""

    @property
    def batch_size(self) -> int:
        """Environment steps per update."""
        return self.num_envs * self.num_steps

    def __post_init__(self):
        require_count(self, "num_envs", "num_steps")
        networks.check_network(self)
        require_choice(self, "optimizer", get_args(optimizers.Kind))


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped, swept or meta-learned. Traced."""

    learning_rate: float = hyper(1e-3, at_least=0)
    """The optimizer's step size."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step."""
    gae_lambda: float = hyper(0.95, at_least=0, at_most=1)
    """Decay of the advantage's eligibility trace."""
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


def make(config: Config, env: Any, torso: nn.Module | None = None) -> Algorithm:
    """Make A2C for a gymnax environment with discrete actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        torso: maps observations `[..., *obs_shape]` to features `[..., width]`, one each for
            policy and value; by default a table, or the torso that the config names.

    Raises:
        ValueError: if the torso cannot read the observations or does not return features, or
            actions are not discrete.
    """
    space = env.observation_space(env.default_params)
    features = torsos.torso_for(config, env, torso)
    num_actions = networks.num_actions(env.action_space(env.default_params))
    actor = networks.readout(space, features, num_actions, 0.01)
    critic = networks.readout(space, features, 1)

    def value_of(params: Params, obs: Any) -> jax.Array:
        return critic.apply(params.critic, obs)[..., 0]

    def optimizer(hypers: Hypers) -> optax.GradientTransformation:
        return optax.chain(
            optimizers.clip_by_global_norm(hypers.max_grad_norm),
            optimizers.optimizer(config.optimizer, hypers.learning_rate),
        )

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        actor_key, critic_key, env_key, key = jax.random.split(key, 4)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs)
        obs = interaction.obs
        params = Params(actor.init(actor_key, obs), critic.init(critic_key, obs))
        return State(
            params=params,
            opt_state=optimizer(hypers).init(params),
            interaction=interaction,
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        def explore(memory, obs, first, key):
            pi = networks.categorical(actor.apply(state.params.actor, obs))
            return pi.sample(seed=key), memory, ()

        def final_value(memory, obs):
            return value_of(state.params, obs)

        key, rollout_key = jax.random.split(state.key)
        interaction, experience = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma, final_value=final_value,
        )  # fmt: skip
        return state._replace(interaction=interaction, key=key), experience

    def loss(
        params: Params, transitions: Transition, estimates: ValueEstimates, hypers: Hypers
    ) -> tuple[jax.Array, Metrics]:
        pi = networks.categorical(actor.apply(params.actor, transitions.obs))
        value = value_of(params, transitions.obs)
        metrics = {
            "policy_loss": -(pi.log_prob(transitions.action) * estimates.advantage).mean(),
            "value_loss": 0.5 * ((value - estimates.target) ** 2).mean(),
            "entropy": pi.entropy().mean(),
        }
        total = (
            metrics["policy_loss"]
            + hypers.value_coef * metrics["value_loss"]
            - hypers.entropy_coef * metrics["entropy"]
        )
        return total, metrics

    def estimate(state: State, hypers: Hypers, experience: Experience) -> ValueEstimates:
        value = value_of(state.params, experience.transitions.obs)
        last_value = value_of(state.params, state.interaction.obs)
        return estimate_values(
            experience.transitions, value, last_value, hypers.gamma, hypers.gae_lambda
        )

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        estimates = estimate(state, hypers, experience)
        grads, metrics = jax.grad(loss, has_aux=True)(
            state.params, experience.transitions, estimates, hypers
        )
        updates, opt_state = optimizer(hypers).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        env_steps = {"env_steps": jnp.int32(config.batch_size)}
        return state, env_steps | experience.episodes | metrics

    def log_prob(state: State, experience: Experience) -> tuple[jax.Array, Metrics]:
        transitions = experience.transitions
        pi = networks.categorical(actor.apply(state.params.actor, transitions.obs))
        return pi.log_prob(transitions.action), {"entropy": pi.entropy().mean()}

    def act(policy: Any, memory, obs, first, key, greedy: bool):
        pi = networks.categorical(actor.apply(policy, obs))
        return (pi.mode() if greedy else pi.sample(seed=key)), memory

    return Algorithm(
        config, init, collect_experience, learn, lambda state: state.params.actor, act,
        vital=vital_losses("policy_loss", "value_loss"), log_prob=log_prob, estimate=estimate,
        num_envs=config.num_envs, steps_per_update=config.batch_size,
        made_of=part_names(env, torso),
    )  # fmt: skip
