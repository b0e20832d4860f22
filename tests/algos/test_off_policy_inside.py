"""Off-policy algorithms inside meta-learners: what can be learned of them, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import dqn, sac
from purejaxrl.algorithm import Task, update
from purejaxrl.meta import evolution, gradient
from purejaxrl.meta.worlds import World
from purejaxrl.parts import networks
from purejaxrl.parts.wrappers import for_network
from purejaxrl.ued.curriculum import uniform
from tests.algos.probes import Params, Probe
from tests.helpers import begin

SIZES = dict(num_envs=4, num_steps=4, capacity=256, warmup_steps=32, batch_size=32, hidden=(8,))
CUE = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))


def world_of(inner, env, level, num_updates):
    levels, lifetime = uniform(lambda key: level), lambda key: jnp.int32(num_updates)
    critic = networks.readout(env.observation_space(env.default_params), networks.MLP((8,)), 1)
    return World("levels", inner, env, levels, lifetime, critic=critic)


def with_theta(field, start):
    return {
        "init_theta": lambda key: jnp.float32(start),
        "insert": lambda theta, hypers: hypers.replace(**{field: theta}),
    }


def tune_entropy(num_updates):
    """The meta-learner that tunes SAC's target entropy by a meta-gradient, and its settings."""
    env, level = envs.make("Pendulum-v1")
    env = for_network(env)
    world = world_of(sac.make(sac.Config(**SIZES, num_batches=1), env), env, level, 20)
    settings = gradient.Config(num_agents=2, num_updates=num_updates)
    learner = gradient.make(settings, world, **with_theta("target_entropy", -1.0))
    rates = sac.Hypers(actor_rate=1e-2, critic_rate=1e-2, alpha_rate=0.1)
    return learner, gradient.Hypers(agent=rates, learning_rate=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("num_updates", [1, 3])
def test_a_meta_gradient_tunes_sacs_target_entropy(num_updates):
    """It reaches the policy through the temperature of an earlier update, so there must be one."""
    learner, hypers = tune_entropy(num_updates)
    state = begin(learner, hypers, Task((), jnp.int32(4)))
    after, metrics = jax.jit(lambda state: update(learner, state, hypers))(state)
    assert np.isfinite(metrics["grad_norm"])
    assert (metrics["grad_norm"] > 0) == (after.params != -1.0) == (num_updates > 1)
    [world] = after.worlds
    written = 32 + num_updates * 16  # the last experience is for the meta-loss alone
    assert world.agents.state.replay.written.tolist() == [written] * 2


@pytest.mark.slow
def test_evolution_tunes_dqns_exploration():
    env, level = envs.make("CartPole-v1")
    inner = dqn.make(dqn.Config(**SIZES, num_batches=2, target_every=8), env)
    learner = evolution.make(
        evolution.Config(num_pairs=2, num_episodes=4, max_steps=100),
        world_of(inner, env, level, 60),
        init_theta=lambda key: {"end": jnp.float32(-3.0), "share": jnp.float32(0.0)},
        insert=lambda theta, hypers: hypers.replace(
            epsilon_end=jax.nn.sigmoid(theta["end"]), exploration=jax.nn.sigmoid(theta["share"])
        ),
    )
    hypers = evolution.Hypers(agent=dqn.Hypers(learning_rate=3e-3), std=1.0)
    state = begin(learner, hypers, Task((), jnp.int32(4)))
    after, metrics = jax.jit(lambda state: update(learner, state, hypers))(state)
    assert metrics["env_steps"] == 4 * (32 + 60 * 16)  # warm-ups count
    assert metrics["unsound"] == 0
    assert all(after.params[name] != state.params[name] for name in ("end", "share"))


def test_dqn_is_refused_by_name_where_a_policy_gradient_is_needed():
    world = world_of(dqn.make(dqn.Config(**SIZES), CUE), CUE, Params(), 10)
    with pytest.raises(
        ValueError, match=r"inner: algos\.dqn is not valid; a meta-gradient needs its `log_prob`"
    ):
        gradient.make(gradient.Config(num_agents=2), world, **with_theta("gamma", 0.9))
