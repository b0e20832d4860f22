"""Recurrent PPO: a GRU (Cho et al. 2014) gives the networks a memory, for partial observability.

A fork of `ppo.py`. The differences are the network, the memory that is carried through collection,
and minibatches of whole sequences, over environments instead of steps. The memory is cleared
*before* an episode's first observation (`first`: the done of the step before); the advantage is cut
*after* its last one.
"""

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
from purejaxrl.identity import part_name
from purejaxrl.parts import networks
from purejaxrl.parts.normalize import Moments, Normalizer, advance_normalizer, normalize_obs
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.parts.rollout import Experience, Interaction, collect, estimate_values
from purejaxrl.validation import require, require_count

__all__ = ["Config", "Hypers", "make"]


@dataclass(frozen=True)
class Config(ppo.Config):
    """PPO's settings; `num_minibatches` divides num_envs, as whole sequences are shuffled."""

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


class GRU(nn.Module):
    """A GRU whose memory is cleared where an episode begins."""

    size: int

    @nn.compact
    def __call__(self, memory: jax.Array, inputs: tuple[jax.Array, jax.Array]):
        features, first = inputs
        memory = jnp.where(first[..., None], 0.0, memory)
        cell = nn.GRUCell(self.size, recurrent_kernel_init=networks.orthogonal(1.0))
        return cell(memory, features)


class ActorCritic(nn.Module):
    """A torso, a GRU, and the heads of policy and value."""

    torso: nn.Module
    memory_size: int
    action_space: Any

    @nn.compact
    def __call__(
        self, memory: jax.Array, obs: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, networks.Distribution, jax.Array]:
        """Run over time.

        Args:
            memory: `[num_envs, memory_size]`, before the first observation.
            obs: `[T, num_envs, ...]`.
            first: bool `[T, num_envs]`.

        Returns:
            The memory after the last observation, a distribution and values `[T, num_envs]`.
        """
        over_time = nn.scan(GRU, variable_broadcast="params", split_rngs={"params": False})
        memory, hidden = over_time(self.memory_size)(memory, (self.torso(obs), first))
        pi = networks.PolicyHead(self.action_space)(hidden)
        return memory, pi, networks.dense(1, 1.0)(hidden)[..., 0]

    def initial_memory(self, num_envs: int) -> jax.Array:
        """Return an empty memory, `[num_envs, memory_size]`."""
        return jnp.zeros((num_envs, self.memory_size))

    def step(self, params: Any, memory: jax.Array, obs: jax.Array, first: jax.Array):
        """Run one time step: leaves `[num_envs, ...]`, else as `__call__`."""
        memory, pi, value = self.apply(params, memory, obs[None], first[None])
        return memory, pi[0], value[0]


class State(NamedTuple):
    """An agent on a level."""

    params: Any
    opt_state: Any
    interaction: Interaction  # memory: [num_envs, memory_size]
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

    memory: jax.Array  # before the first observation
    last_value: jax.Array  # of the observation after the last step


class Sequences(NamedTuple):
    """Sequences of some environments: leaves `[num_envs, num_steps, ...]`."""

    memory: jax.Array  # [num_envs, memory_size], before the first observation
    first: jax.Array
    steps: Minibatch


def make(config: Config, env: Any, policy_loss: PolicyLoss = policy_loss) -> Algorithm:
    """Make recurrent PPO for a gymnax environment with discrete or continuous actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        policy_loss: loss of the policy.

    Raises:
        ValueError: if the torso cannot read the observations, or actions are neither discrete nor
            a vector.
    """
    obs_shape = networks.obs_shape(env.observation_space(env.default_params), config.torso)
    action_space = env.action_space(env.default_params)
    networks.check_action_space(action_space)
    torso = networks.torso(config.torso, config.hidden, config.activation)
    network = ActorCritic(torso, config.memory_size, action_space)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        network_key, env_key, key = jax.random.split(key, 3)
        memory = network.initial_memory(config.num_envs)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs, memory)
        obs, first = interaction.obs, interaction.first
        params = network.init(network_key, memory, obs[None], first[None])
        step = jnp.int32(0)
        return State(
            params=params,
            opt_state=optimizer(hypers, task, step).init(params),
            interaction=interaction,
            task=task,
            key=key,
            step=step,
            normalizer=Normalizer.start(
                config.normalize_obs, config.normalize_reward, obs_shape, config.num_envs
            ),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        params, moments = state.params, state.normalizer.obs

        def explore(memory, obs, first, key):
            memory, pi, value = network.step(params, memory, normalize_obs(moments, obs), first)
            action, log_prob = pi.sample_and_log_prob(seed=key)
            return memory, *jax.lax.stop_gradient((action, (log_prob, value)))

        def value_of(memory, obs, first):
            value = network.step(params, memory, normalize_obs(moments, obs), first)[2]
            return jax.lax.stop_gradient(value)

        def final_value(memory, obs):
            return value_of(memory, obs, jnp.zeros(config.num_envs, bool))

        key, rollout_key = jax.random.split(state.key)
        interaction, (seen, episodes, _) = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma, final_value=final_value,
        )  # fmt: skip
        done = seen.terminated | seen.truncated
        normalizer, reward = advance_normalizer(
            state.normalizer, seen.obs, seen.reward, done, hypers.gamma
        )
        seen = seen._replace(obs=normalize_obs(moments, seen.obs), reward=reward)
        last_value = value_of(interaction.memory, interaction.obs, interaction.first)
        extras = Extras(state.interaction.memory, last_value)
        state = state._replace(interaction=interaction, key=key, normalizer=normalizer)
        return state, Experience(seen, episodes, extras)

    def loss(params: Any, batch: Sequences, hypers: Hypers) -> tuple[jax.Array, Metrics]:
        steps = jax.tree.map(lambda x: x.swapaxes(0, 1), batch.steps)  # time first again
        _, pi, value = network.apply(params, batch.memory, steps.obs, batch.first.T)
        return total_loss(pi, value, steps, hypers, policy_loss)

    def estimate(state: State, hypers: Hypers, experience: Experience) -> ValueEstimates:
        seen = experience.transitions
        _, value = seen.extras
        last_value = experience.extras.last_value
        return estimate_values(seen, value, last_value, hypers.gamma, hypers.gae_lambda)

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        seen, found = experience.transitions, estimate(state, hypers, experience)
        log_prob, _ = seen.extras
        steps = Minibatch(
            seen.obs, seen.action, log_prob, found.value, found.advantage, found.target
        )
        steps, first = jax.tree.map(lambda x: x.swapaxes(0, 1), (steps, seen.first))
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
        network.initial_memory, ppo.vital, estimate=estimate, num_envs=config.num_envs,
        steps_per_update=config.batch_size,
        made_of=(part_name(env), part_name(policy_loss)),
    )  # fmt: skip
