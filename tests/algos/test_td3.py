"""TD3's delay and noise by hand, probes, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import td3
from purejaxrl.algorithm import Task, make_train, update
from purejaxrl.parts.wrappers import for_network
from tests.algos.probes import Params, Probe, assert_bootstraps_only_where_truncated, pay_one
from tests.helpers import assert_members_differ_and_are_as_alone, mostly_slow

SMALL = td3.Config(
    num_envs=4, num_steps=2, capacity=2048, warmup_steps=64, batch_size=64, num_batches=4,
    hidden=(16, 16),
)  # fmt: skip
FAST = td3.Hypers(actor_rate=3e-3, critic_rate=3e-3, target_rate=0.05)


def probe(reward):
    return for_network(Probe(reward, continuous=True))


def started(config, hypers, reward=lambda state, action: -(action[0] ** 2), level=None):
    agent = td3.make(config, probe(reward))
    task = Task(level or Params(), jnp.int32(9))
    return agent, jax.jit(agent.init)(jax.random.key(0), hypers, task)


def train(env, params, updates, hypers=FAST, config=SMALL):
    run = jax.jit(make_train(td3.make(config, env), updates))
    return run(jax.random.key(0), hypers, params)


@pytest.mark.parametrize("delay", mostly_slow([1, 2, 4], {2}))
def test_policy_and_targets_move_once_in_a_delay(delay):
    config = dataclasses.replace(SMALL, policy_delay=delay)
    hypers = td3.Hypers(actor_rate=0.0, critic_rate=0.0, target_rate=0.1)
    agent, state = started(config, hypers)
    state = state._replace(target_params=jax.tree.map(jnp.zeros_like, state.target_params))
    after, _ = jax.jit(lambda state: update(agent, state, hypers))(state)
    count = lambda opt_state: int(opt_state[0].count)  # noqa: E731
    assert count(after.opt_state.critic) == 4
    assert count(after.opt_state.actor) == 4 // delay
    moved = 1 - 0.9 ** (4 // delay)
    for now, params in zip(
        jax.tree.leaves(after.target_params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(now, moved * params, rtol=1e-5, atol=1e-7)


def test_noise_is_clipped_and_so_are_actions():
    key, action = jax.random.key(0), jnp.linspace(-1, 1, 1000)
    noise = np.clip(0.4 * jax.random.normal(key, action.shape), -0.5, 0.5)
    expected = np.clip(action + noise, -1, 1)
    np.testing.assert_allclose(td3.add_noise(key, action, 0.4, 0.5), expected, rtol=1e-6)
    assert (np.abs(noise) == 0.5).any() and (np.abs(expected) == 1).any()


def test_actions_are_explored_around_those_of_the_policy():
    config = dataclasses.replace(SMALL, num_steps=64, warmup_steps=256)
    agent, state = started(config, FAST)
    params = jax.tree.map(jnp.zeros_like, state.params)  # the policy's actions are 0
    collect = jax.jit(lambda hypers: agent.collect(state._replace(params=params), hypers)[1])
    for noise in (0.0, 0.1):
        actions = collect(FAST.replace(exploration_noise=noise)).transitions.action
        np.testing.assert_allclose(np.std(actions), noise, rtol=0.2)
        np.testing.assert_allclose(np.mean(actions), 0.0, atol=0.3 * noise)


@pytest.mark.slow
def test_noise_of_the_targets_is_new_for_every_batch():
    """With all rates zero, batches of one and the same step differ by their noise only.

    So the loss of an update, the mean over its batches, varies less the more batches there are.
    """
    one, four = losses_of_one_step(num_batches=1), losses_of_one_step(num_batches=4)
    assert len(set(one)) == len(one)
    assert np.var(four) < 0.5 * np.var(one)


def losses_of_one_step(num_batches: int, num_updates: int = 100) -> list[float]:
    config = dataclasses.replace(SMALL, capacity=64, num_envs=1, num_steps=1, policy_delay=1,
                                 num_batches=num_batches, batch_size=1, warmup_steps=1)  # fmt: skip
    level = Params(length=100, max_steps_in_episode=1)
    hypers = td3.Hypers(target_noise_clip=jnp.inf, actor_rate=0.0, critic_rate=0.0)
    agent, state = started(config, hypers, lambda state, action: jnp.float32(0), level)
    one = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), state.replay.contents)
    same = jax.tree.map(lambda x: x[:1, None], one)

    def learn(state: td3.State, _: None) -> tuple[td3.State, jax.Array]:
        state = state._replace(replay=state.replay._replace(contents=one))
        experience = agent.collect(state, hypers)[1]
        seen = experience.transitions._replace(
            obs=same.obs, action=same.action, reward=same.reward, terminated=same.terminated,
            truncated=same.truncated, final_obs=same.next_obs,
        )  # fmt: skip
        state, metrics = agent.learn(state, hypers, experience._replace(transitions=seen))
        return state, metrics["critic_loss"]

    return jax.jit(lambda state: jax.lax.scan(learn, state, length=num_updates)[1])(state).tolist()


@pytest.mark.parametrize("normalize_obs", mostly_slow([False, True], {True}))
def test_it_learns_continuous_actions(normalize_obs):
    env = probe(lambda state, action: -((action[0] - state.cue) ** 2))
    config = dataclasses.replace(SMALL, normalize_obs=normalize_obs)
    _, metrics = train(env, Params(), 300, config=config)
    assert metrics["return"][-30:].mean() > -0.2 > metrics["return"][0]
    assert metrics["env_steps"].tolist()[:2] == [72, 8]


def test_a_terminated_episode_is_not_bootstrapped_and_a_truncated_one_is():
    agent = td3.make(SMALL, probe(pay_one))
    assert_bootstraps_only_where_truncated(agent, FAST.replace(gamma=0.5), 250)


@pytest.mark.slow
def test_members_of_different_seeds_differ_and_equal_themselves_alone():
    env, params = envs.make("Pendulum-v1")
    kept = lambda state: (state.params, state.replay.contents.obs, state.interaction.obs)  # noqa: E731
    agent = td3.make(SMALL, for_network(env))
    assert_members_differ_and_are_as_alone(agent, FAST, params, kept)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"action_space: Discrete\(2\) is not valid"):
        td3.make(SMALL, envs.make("CartPole-v1")[0])
    with pytest.raises(ValueError, match=r"action_space: Box.*ScaleAction"):
        td3.make(SMALL, envs.make("Pendulum-v1")[0])
    with pytest.raises(ValueError, match="num_batches: 3 .*a multiple of policy_delay = 2"):
        dataclasses.replace(SMALL, num_batches=3)
