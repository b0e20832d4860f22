"""Recurrent PPO: a GRU (Cho et al. 2014) gives the networks a memory, for partial observability.

A fork of `ppo.py`. Actor and critic share one torso and GRU, the memory is carried through
collection, and minibatches are whole sequences, over environments instead of steps. Any other
network with a memory can be given as the `torso`. The memory is cleared *before* an episode's first
observation (`first`: the done of the step before); the advantage is cut *after* its last one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from algos import ppo
from algos.ppo import (
    Hypers,
    Minibatch,
    PolicyLoss,
    optimize,
    optimizer,
    policy_loss,
    total_loss,
)
from purejaxrl.algorithm import Algorithm, Metrics, Task
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, torsos
from purejaxrl.parts.normalize import (
    Moments,
    Normalizer,
    normalize_obs,
    normalize_rollout,
    scale_rewards,
)
from purejaxrl.parts.recurrent import GRU, Recurrent
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.parts.rollout import Experience, Interaction, collect, estimate_values
from purejaxrl.validation import require, require_count

__all__ = ["Config", "Hypers", "make"]


@dataclass(frozen=True)
class Config(ppo.Config):
    """PPO's settings; `num_minibatches` divides num_envs, as whole sequences are shuffled."""

    torso: networks.TorsoKind = "mlp"
    """Kind of torso, whose features the GRU reads. Actor and critic share both."""
    memory_size: int = 64
    """Width of the GRU."""

    def __post_init__(self):
        super().__post_init__()
        require_count(self, "memory_size")
        require(
            self.num_envs % self.num_minibatches == 0,
            self,
            "num_minibatches",
            f"a divisor of num_envs = {self.num_envs}",
        )


class ActorCritic(nn.Module):
    """A torso, a memory, and the heads of policy and value."""

    torso: Callable[[jax.Array], jax.Array]  # observations to what the memory reads
    recurrent: Recurrent
    action_space: Any

    @nn.compact
    def __call__(
        self, memory: Any, obs: jax.Array, first: jax.Array
    ) -> tuple[Any, networks.Distribution, jax.Array]:
        """Run over time.

        Args:
            memory: leaves `[num_envs, ...]`, before the first observation.
            obs: `[T, num_envs, ...]`.
            first: bool `[T, num_envs]`.

        Returns:
            The memory after the last observation, a distribution and values `[T, num_envs]`.
        """
        memory, features = self.recurrent(memory, self.torso(obs), first)
        pi = networks.PolicyHead(self.action_space)(features, obs)
        return memory, pi, networks.dense(1, 1.0)(features)[..., 0]

    def step(self, params: Any, memory: Any, obs: jax.Array, first: jax.Array):
        """Run one time step: leaves `[num_envs, ...]`, else as `__call__`."""
        memory, pi, value = self.apply(params, memory, obs[None], first[None])
        return memory, pi[0], value[0]


def make_network(config: Config, env: Any, torso: nn.Module | None) -> ActorCritic:
    """Make the network: a torso with a memory of its own, or any other torso and a GRU."""
    action_space = env.action_space(env.default_params)
    if torsos.is_recurrent(torso):
        torsos.check_recurrent(torso, env)
        return ActorCritic(lambda obs: obs, torso, action_space)
    gru = GRU(config.memory_size)
    return ActorCritic(torsos.torso_for(config, env, torso), gru, action_space)


class State(NamedTuple):
    """An agent on a level."""

    params: Any
    opt_state: Any
    interaction: Interaction
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done
    normalizer: Normalizer


class Policy(NamedTuple):
    """What acting needs."""

    params: Any
    obs_moments: Moments | None


class Extras(NamedTuple):
    """What learning needs besides transitions, leaves `[num_envs, ...]`."""

    memory: Any  # before the first observation
    last_value: jax.Array  # of the observation after the last step


class Sequences(NamedTuple):
    """Sequences of some environments: leaves `[num_envs, num_steps, ...]`."""

    memory: Any  # leaves [num_envs, ...], before the first observation
    first: jax.Array
    steps: Minibatch


def make(
    config: Config,
    env: Any,
    policy_loss: PolicyLoss = policy_loss,
    torso: nn.Module | None = None,
) -> Algorithm:
    """Make recurrent PPO for a gymnax environment with discrete or continuous actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        policy_loss: loss of the policy.
        torso: a `Recurrent` module, which reads the observations and replaces the GRU; or, under
            the GRU, a module from observations `[..., *obs_shape]` to features `[..., width]`; by
            default the one that the config names.

    Raises:
        ValueError: if the torso cannot read the observations, does not return features or changes
            the form of its memory, or actions are neither discrete nor a vector.
    """
    obs_shape = networks.obs_shape(env.observation_space(env.default_params))
    networks.check_action_space(env.action_space(env.default_params), config.normalize_obs)
    network = make_network(config, env, torso)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        network_key, env_key, key = jax.random.split(key, 3)
        memory = network.recurrent.initial_memory(config.num_envs)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs, memory)
        obs, first = interaction.obs, interaction.first
        params = network.init(network_key, memory, obs[None], first[None])
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
        params, moments = state.params, state.normalizer.obs

        def explore(memory, obs, first, key):
            memory, pi, value = network.step(params, memory, normalize_obs(moments, obs), first)
            action, log_prob = pi.sample_and_log_prob(seed=key)
            action, extras = jax.lax.stop_gradient((action, (log_prob, value)))
            return action, memory, extras

        def value_of(memory, obs, first):
            value = network.step(params, memory, normalize_obs(moments, obs), first)[2]
            return jax.lax.stop_gradient(value)

        def final_value(memory, obs):
            return value_of(memory, obs, jnp.zeros(config.num_envs, bool))

        key, rollout_key = jax.random.split(state.key)
        interaction, (transitions, episodes, _) = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma, final_value=final_value,
        )  # fmt: skip
        normalizer, transitions = normalize_rollout(state.normalizer, transitions, hypers.gamma)
        last_value = value_of(interaction.memory, interaction.obs, interaction.first)
        extras = Extras(state.interaction.memory, last_value)
        state = state._replace(interaction=interaction, key=key, normalizer=normalizer)
        return state, Experience(transitions, episodes, extras)

    def loss(
        params: Any, batch: Sequences, hypers: Hypers, age: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        steps = jax.tree.map(lambda x: x.swapaxes(0, 1), batch.steps)  # time first again
        _, pi, value = network.apply(params, batch.memory, steps.obs, batch.first.T)
        return total_loss(pi, value, steps, hypers, age, policy_loss)

    def estimate(state: State, hypers: Hypers, experience: Experience) -> ValueEstimates:
        transitions, last_value = experience.transitions, experience.extras.last_value
        reward = scale_rewards(state.normalizer.reward, transitions.reward)
        _, value = transitions.extras
        return estimate_values(
            transitions._replace(reward=reward), value, last_value, hypers.gamma, hypers.gae_lambda
        )

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        transitions, estimates = experience.transitions, estimate(state, hypers, experience)
        log_prob, _ = transitions.extras
        steps = Minibatch(
            obs=transitions.obs, action=transitions.action, log_prob=log_prob,
            value=estimates.value, advantage=estimates.advantage, target=estimates.target,
        )  # fmt: skip
        steps, first = jax.tree.map(lambda x: x.swapaxes(0, 1), (steps, transitions.first))
        sequences = Sequences(experience.extras.memory, first, steps)
        state, metrics = optimize(loss, state, hypers, sequences, config)
        env_steps = {"env_steps": jnp.int32(config.batch_size)}
        return state, env_steps | experience.episodes | metrics

    def act(policy: Policy, memory, obs, first, key, greedy: bool):
        obs = normalize_obs(policy.obs_moments, obs)
        memory, pi, _ = network.step(policy.params, memory, obs, first)
        return (pi.mode() if greedy else pi.sample(seed=key)), memory

    return Algorithm(
        config, init, collect_experience, learn,
        lambda state: Policy(state.params, state.normalizer.obs), act,
        memory=network.recurrent.initial_memory, vital=ppo.vital, estimate=estimate,
        num_envs=config.num_envs, steps_per_update=config.batch_size,
        made_of=part_names(env, policy_loss, torso),
    )  # fmt: skip
