"""SAC's targets by hand, its temperature on bandits, probes, and what it refuses."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import envs
from algos import sac
from algos.sac_actions import Considered, ContinuousActions
from purejaxrl.algorithm import make_train
from purejaxrl.parts import networks
from purejaxrl.parts.normalize import normalize_obs
from purejaxrl.parts.optimizers import init_each
from purejaxrl.parts.transitions import Batch
from purejaxrl.parts.wrappers import for_network
from tests.algos.probes import Params, Probe, assert_bootstraps_only_where_truncated, pay_one
from tests.helpers import assert_members_differ_and_are_as_alone, mostly_slow

SMALL = sac.Config(
    num_envs=4, num_steps=2, capacity=2048, warmup_steps=64, batch_size=64, num_batches=4,
    hidden=(16, 16),
)  # fmt: skip
RATES = dict(actor_rate=3e-3, critic_rate=3e-3, alpha_rate=1e-2, target_rate=0.05)


def probe(reward, continuous=True):
    return for_network(Probe(reward, continuous=continuous))


def train(env, params, updates, hypers, config=SMALL):
    run = jax.jit(make_train(sac.make(config, env), updates))
    return run(jax.random.key(0), hypers, params)


class Known:
    """Actions whose values and probabilities are tables, with a row for each observation."""

    entropy_unit = 1.0
    critics = SimpleNamespace(q=lambda critic, obs, action: critic["taken"][:, obs])

    def consider(self, actor, critic, obs, key):
        weight = jnp.array([[0.1, 0.9], [0.5, 0.5], [0.25, 0.75]])[obs]
        return Considered(weight + 0 * actor, jnp.log(weight), critic["lower"][obs] + 0 * actor)


def test_targets_and_the_actors_loss_are_soft_values():
    """Of the next observation by the target critics, and of this one by the learned critics."""
    taken = jnp.array([[0.5, 3.0, 99.0], [-1.0, 4.0, 99.0]])
    critic = {"taken": taken, "lower": jnp.array([[6.0, 7.0], [8.0, 9.0], [99.0, 99.0]])}
    slow = {"taken": 0 * taken, "lower": jnp.array([[50.0, 60.0], [70.0, 80.0], [1.0, 2.0]])}
    params = sac.Params(jnp.float32(0), critic, jnp.log(0.1))
    obs, next_obs, discount = jnp.array([0, 1]), jnp.array([2, 0]), jnp.array([0.5, 0.0])
    batch = Batch(obs, jnp.zeros(2), jnp.array([1.0, 2.0]), discount, next_obs)
    *_, metrics = sac.learn_from_batch(
        Known(), params, slow, init_each(params), batch, jax.random.key(0), sac.Hypers()
    )
    entropy = lambda p: -(p * np.log(p) + (1 - p) * np.log(1 - p))  # noqa: E731
    target = np.array([1 + 0.5 * (1.75 + 0.1 * entropy(0.25)), 2.0])
    error = np.array([[0.5, 3.0], [-1.0, 4.0]]) - target
    of_actor = -(6.9 + 0.1 * entropy(0.1) + 8.5 + 0.1 * entropy(0.5)) / 2
    np.testing.assert_allclose(metrics["critic_loss"], (error**2).sum() / 4, rtol=1e-5)
    np.testing.assert_allclose(metrics["actor_loss"], of_actor, rtol=1e-5)
    np.testing.assert_allclose(metrics["alpha"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], (entropy(0.1) + np.log(2)) / 2, rtol=1e-5)


@pytest.mark.slow
def test_the_temperature_reaches_its_target_entropy_on_a_bandit():
    env = probe(lambda state, action: -(action[0] ** 2))
    run = jax.jit(make_train(sac.make(SMALL, env), 500))
    for target in (-1.0, 0.0):
        hypers = sac.Hypers(target_entropy=target, **RATES)
        _, metrics = run(jax.random.key(0), hypers, Params())
        np.testing.assert_allclose(metrics["entropy"][-100:].mean(), target, atol=0.15)


def test_the_temperature_reaches_its_target_entropy_on_a_discrete_bandit():
    env = probe(lambda state, action: jnp.where(action == 0, 1.0, 0.0), continuous=False)
    hypers = sac.DiscreteHypers(target_entropy=0.5, **RATES)
    _, metrics = train(env, Params(), 500, hypers)
    np.testing.assert_allclose(metrics["entropy"][-100:].mean(), 0.5 * np.log(2), atol=0.05)
    alpha = 1 / np.log(0.89 / 0.11)  # the policy is softmax(q / α), and has this entropy
    np.testing.assert_allclose(metrics["alpha"][-100:].mean(), alpha, rtol=0.2)


@pytest.mark.parametrize("normalize_obs", mostly_slow([False, True], {True}))
def test_it_learns_continuous_actions(normalize_obs):
    env = probe(lambda state, action: -((action[0] - state.cue) ** 2))
    config = dataclasses.replace(SMALL, normalize_obs=normalize_obs)
    state, metrics = train(env, Params(), 300, sac.Hypers(**RATES), config)
    assert metrics["return"][-30:].mean() > -0.3 > metrics["return"][0]
    assert metrics["env_steps"].tolist()[:2] == [72, 8]
    if normalize_obs:
        np.testing.assert_allclose(state.moments.count, 64 + 300 * 8, rtol=1e-3)


@pytest.mark.slow
def test_it_learns_discrete_actions():
    env = probe(lambda state, a: jnp.where(a == (state.cue > 0), 1, -1), continuous=False)
    hypers = sac.DiscreteHypers(**RATES).replace(target_entropy=0.2)
    _, metrics = train(env, Params(), 300, hypers)
    assert metrics["return"][-30:].mean() > 0.8


def test_a_terminated_episode_is_not_bootstrapped_and_a_truncated_one_is():
    hypers = sac.Hypers(gamma=0.5, alpha_start=1e-6, **RATES).replace(alpha_rate=0.0)
    assert_bootstraps_only_where_truncated(sac.make(SMALL, probe(pay_one)), hypers, 200)


def test_log_probabilities_are_those_of_the_actions_taken():
    env, params = envs.make("Pendulum-v1")
    agent = sac.make(dataclasses.replace(SMALL, normalize_obs=True), for_network(env))

    @jax.jit
    def begin_and_collect(task):
        state = agent.init(jax.random.key(0), sac.Hypers(), task)
        return agent.collect(state, sac.Hypers())

    state, experience = begin_and_collect(sac.Task(params, jnp.int32(9)))
    seen = experience.transitions
    np.testing.assert_allclose(seen.action, np.tanh(seen.extras), atol=1e-5)
    log_prob, entropies = agent.log_prob(state, experience)
    assert log_prob.shape == seen.reward.shape
    torso = networks.build_torso("mlp", SMALL.hidden, SMALL.activation)
    pi = ContinuousActions(torso, for_network(env)).policy(
        state.params.actor, normalize_obs(state.moments, seen.obs)
    )
    np.testing.assert_allclose(log_prob, pi.log_prob(seen.extras), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(entropies["entropy"], -log_prob.mean(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1"])
def test_members_of_different_seeds_differ_and_equal_themselves_alone(name):
    env, params = envs.make(name)
    hypers = sac.Hypers() if name == "Pendulum-v1" else sac.DiscreteHypers()
    kept = lambda state: (state.params, state.replay.contents.obs, state.interaction.obs)  # noqa: E731
    agent = sac.make(SMALL, for_network(env))
    assert_members_differ_and_are_as_alone(agent, hypers, params, kept)


def test_what_does_not_fit_is_refused():
    pendulum, level = envs.make("Pendulum-v1")
    with pytest.raises(ValueError, match=r"action_space: Box.*ScaleAction"):
        sac.make(SMALL, pendulum)
    run = make_train(sac.make(SMALL, for_network(pendulum)), 1)
    with pytest.raises(ValueError, match="hypers: DiscreteHypers is not valid; it must be Hypers"):
        run(jax.random.key(0), sac.DiscreteHypers(), level)
    with pytest.raises(ValueError, match=r"target_entropy: 1\.5 is not valid"):
        run(jax.random.key(0), sac.DiscreteHypers(target_entropy=1.5), level)
    with pytest.raises(ValueError, match="observations of shape .* are not valid"):
        config = dataclasses.replace(SMALL, torso="cnn", hidden=(8,))
        sac.make(config, _Images())


class _Images(Probe):
    """Images, and actions in [-1, 1]."""

    def __init__(self):
        super().__init__(lambda state, action: jnp.float32(0), continuous=True)

    def get_obs(self, state, params=None, key=None):
        return jnp.zeros((10, 10, 4))

    def observation_space(self, params=None):
        return spaces.Box(0.0, 1.0, (10, 10, 4))

    def action_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (1,))
