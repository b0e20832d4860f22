"""The meta-objective's critic: its units, and the scale of advantages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.algorithm import Task
from purejaxrl.meta import critic as critics
from purejaxrl.parts import networks, rollout
from tests.algos.chain import Chain
from tests.helpers import init_rule
from tests.purejaxrl.meta.small import AGENT, ENV, HYPERS, INNER

NETWORK = networks.readout(ENV.observation_space(), None, 1)


@pytest.fixture(scope="module")
def rollouts():
    """Experience of an agent whose level pays at every step."""
    level = ENV.default_params
    level = level.replace(reward=jnp.ones_like(level.reward), offset=jnp.float32(1.0))
    hypers = HYPERS.agent.replace(rule=init_rule(jax.random.key(0), AGENT))
    state = jax.jit(INNER.init)(jax.random.key(1), hypers, Task(level, jnp.int32(9)))
    collect, found = jax.jit(INNER.collect), []
    for _ in range(30):
        state, experience = collect(state, hypers)
        found.append(experience.transitions)
    return found


def learn(rollouts, scale, rate=0.05, noise=0.0):
    """Normalised advantages and explained variances of rollouts with scaled rewards."""
    critic = critics.init(NETWORK, jax.random.key(0), rollouts[0].obs, AGENT.num_envs, rate)
    draw = lambda x: x + noise * jax.random.normal(jax.random.key(1), x.shape)  # noqa: E731
    critic = critic._replace(params=jax.tree.map(draw, critic.params))

    @jax.jit
    def step(critic, seen):
        critic, estimates = critics.estimate(NETWORK, critic, seen, 0.9, 0.95)
        advantage = critics.normalize_advantage(critic, estimates.advantage)
        critic, share = critics.update(NETWORK, critic, seen, estimates.target, rate)
        return critic, (advantage, share, estimates.value)

    found = []
    for seen in rollouts:
        critic, results = step(critic, seen._replace(reward=scale * seen.reward))
        found.append(results)
    advantages, explained, values = map(np.array, zip(*found, strict=True))
    return advantages, explained, values[-1]


def test_values_and_advantages_are_those_of_generalised_advantage_estimation():
    """In units of the returns' standard deviation; an episode that is cut bootstraps from its last
    observation, and one that terminates does not bootstrap."""
    env, rng = Chain(), np.random.default_rng(0)
    start = rollout.Interaction.start(jax.random.key(0), env, env.default_params, 2)
    act = rollout.uniform(env)
    _, experience = rollout.collect(jax.random.key(1), env, env.default_params, start, act, 9, 0.9)
    seen = experience.transitions._replace(reward=jnp.float32(3 * rng.normal(size=(9, 2)) + 1))
    network = networks.readout(env.observation_space(), None, 1)
    critic = critics.init(network, jax.random.key(0), seen.obs, 2, 0.05)
    table = rng.normal(size=3)
    critic = critic._replace(params={"params": {"rows": jnp.float32(table)[:, None]}})
    _, found = critics.estimate(network, critic, seen, 0.9, 0.7)

    seen = jax.tree.map(np.asarray, seen)
    assert seen.terminated.any() and seen.truncated.any()
    running, returns = np.zeros(2), []
    for reward, ends in zip(seen.reward, seen.terminated | seen.truncated, strict=True):
        running = 0.9 * running + reward
        returns.append(running)
        running = np.where(ends, 0.0, running)
    unit = np.std(returns)
    advantage, after = np.zeros((9, 2)), np.zeros(2)
    for t in reversed(range(9)):
        next_value = np.where(seen.terminated[t], 0.0, unit * table[seen.final_obs[t]])
        delta = seen.reward[t] + 0.9 * next_value - unit * table[seen.obs[t]]
        done = seen.terminated[t] | seen.truncated[t]
        advantage[t] = after = delta + 0.9 * 0.7 * np.where(done, 0.0, after)
    np.testing.assert_allclose(found.value, unit * table[seen.obs], rtol=1e-4)
    np.testing.assert_allclose(found.advantage, advantage, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_advantages_and_learning_do_not_depend_on_the_scale_of_rewards(rollouts):
    """In units of the reward, a critic of Adam at 0.05 would need 2,000 updates for 100."""
    one, other = (learn(rollouts, scale) for scale in (1.0, 100.0))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(one[1], other[1], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(100 * one[2], other[2], rtol=1e-2, atol=1e-1)  # in reward's units


@pytest.mark.slow
def test_advantages_have_about_unit_scale(rollouts):
    advantages, *_ = learn(rollouts, 7.0)
    assert 0.5 < np.sqrt((advantages[-10:] ** 2).mean()) < 2


def test_the_critic_moves_towards_its_targets(rollouts):
    """In the published code its gradient was zero and its parameters never moved."""
    seen = rollouts[0]
    critic = critics.init(NETWORK, jax.random.key(0), seen.obs, AGENT.num_envs, 0.05)
    critic, estimates = critics.estimate(NETWORK, critic, seen, 0.9, 0.95)

    def error(critic):
        value = critics.return_std(critic.returns) * NETWORK.apply(critic.params, seen.obs)[..., 0]
        return float(abs(value - estimates.target).mean())

    before = error(critic)
    for _ in range(20):
        critic, _ = critics.update(NETWORK, critic, seen, estimates.target, 0.05)
    assert error(critic) < 0.8 * before


def test_without_reward_the_noise_of_the_critic_is_not_amplified(rollouts):
    """Its table starts at small random values, and its step size is 0."""
    advantages, _, values = learn(rollouts, 0.0, rate=0.0, noise=1e-4)
    assert abs(values).max() > 0 and abs(advantages).max() < 0.1
