"""Evaluation on whole episodes; saving and loading policies."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from algos import a2c, ppo, ppo_rnn
from purejaxrl.algorithm import Task
from purejaxrl.running import checkpoint
from purejaxrl.running.checkpoint import CheckpointError
from purejaxrl.running.evaluate import (
    evaluate,
    evaluate_members,
    load_policy,
    play_at_random,
    save_policy,
)
from tests.algos.probes import Params, Probe
from tests.helpers import ENV, ENV_PARAMS, PPO, begin, population


def fresh(algorithm, env_params, hypers):
    return begin(algorithm, hypers, Task(env_params, jnp.int32(1)))


def test_one_episode_per_environment_is_counted_and_no_more():
    env = Probe(lambda state, action: state.time + 1.0)
    algorithm = ppo.make(ppo.Config(hidden=(8,)), env)
    params = Params(length=4, max_steps_in_episode=9)
    policy = algorithm.policy(fresh(algorithm, params, ppo.Hypers()))
    played = evaluate(
        algorithm, env, jax.random.key(1), policy, params,
        num_episodes=5, greedy=True, max_steps=100,
    )  # fmt: skip
    np.testing.assert_array_equal(played.ret, 1 + 2 + 3 + 4)
    np.testing.assert_array_equal(played.length, 4)
    assert played.finished.all()
    cut = evaluate(
        algorithm, env, jax.random.key(1), policy, params,
        num_episodes=5, greedy=True, max_steps=2,
    )  # fmt: skip
    np.testing.assert_array_equal(cut.ret, 1 + 2)
    assert not cut.finished.any()


def test_random_play_takes_all_actions_equally_often():
    """An episode of 50 steps is paid 1 a step for one of two actions."""
    env = Probe(lambda state, action: action)
    params = Params(length=50, max_steps_in_episode=99)
    played = play_at_random(env, jax.random.key(0), params, num_episodes=64)
    assert played.finished.all() and played.ret.shape == (64,)
    assert stats.binomtest(int(played.ret.sum()), 64 * 50, 0.5).pvalue > 1e-3
    assert len(np.unique(played.ret)) > 5
    with pytest.raises(ValueError, match="num_episodes: 0 is not valid"):
        play_at_random(env, jax.random.key(0), params, num_episodes=0)


def test_greedy_repeats_itself_and_sampling_does_not():
    members = population(3)
    state = jax.vmap(lambda k, h: PPO.init(k, h, Task(ENV_PARAMS, jnp.int32(1))))(
        members.keys, members.hypers
    )
    key = jax.random.key(0)
    greedy = evaluate_members(PPO, ENV, key, state, ENV_PARAMS, num_episodes=6)
    sampled = evaluate_members(PPO, ENV, key, state, ENV_PARAMS, num_episodes=6, greedy=False)
    again = evaluate_members(PPO, ENV, key, state, ENV_PARAMS, num_episodes=6)
    assert greedy.ret.shape == (3, 6)
    np.testing.assert_array_equal(greedy.ret, again.ret)
    assert (greedy.ret != sampled.ret).any()
    policy, obs = PPO.policy(jax.tree.map(lambda x: x[0], state)), jax.random.normal(key, (64, 4))
    act = lambda seed, greedy: PPO.act(policy, (), obs, None, jax.random.key(seed), greedy)[0]  # noqa: E731
    np.testing.assert_array_equal(act(0, True), act(1, True))
    assert (act(0, False) != act(1, False)).any()


@pytest.mark.parametrize("poison", [jnp.nan, jnp.inf])
def test_a_policy_that_is_not_finite_has_no_returns(poison):
    """Its actions are in range: -1, and with it the last one of an array."""
    policy = jax.tree.map(lambda x: x + poison, PPO.policy(fresh(PPO, ENV_PARAMS, ppo.Hypers())))
    played = evaluate(
        PPO, ENV, jax.random.key(0), policy, ENV_PARAMS, num_episodes=3, greedy=False, max_steps=9
    )
    assert np.isnan(played.ret).all()


def test_a_loaded_policy_acts_like_the_one_saved(tmp_path):
    state = fresh(PPO, ENV_PARAMS, ppo.Hypers())
    save_policy(tmp_path / "policy", PPO, PPO.policy(state))
    policy = load_policy(tmp_path / "policy", PPO, ppo.Hypers(), ENV_PARAMS)
    for seed in range(5):
        obs = jax.random.normal(jax.random.key(seed), (4,))
        expected, _ = PPO.act(PPO.policy(state), (), obs[None], None, jax.random.key(0), True)
        assert policy(obs)[0] == expected[0]


def test_a_recurrent_policy_carries_its_memory(tmp_path):
    env = Probe(lambda state, action: jnp.float32(0))
    algorithm = ppo_rnn.make(ppo_rnn.Config(hidden=(8,), memory_size=4), env)
    state = fresh(algorithm, Params(), ppo_rnn.Hypers())
    save_policy(tmp_path / "p", algorithm, algorithm.policy(state))
    policy = load_policy(tmp_path / "p", algorithm, ppo_rnn.Hypers(), Params())
    _, memory = policy(jnp.ones(2))
    _, later = policy(jnp.ones(2), memory, first=False)
    _, restarted = policy(jnp.ones(2), memory, first=True)
    assert np.abs(later - memory).max() > 0
    np.testing.assert_array_equal(restarted, memory)
    np.testing.assert_array_equal(policy(jnp.ones(2), memory)[1], later)  # no new episode begins


def test_a_loaded_policy_can_read_a_table(tmp_path):
    env, level = envs.make("gridworld-small")
    algorithm = a2c.make(a2c.Config(num_envs=2), env)
    state = fresh(algorithm, level, a2c.Hypers())
    save_policy(tmp_path / "p", algorithm, algorithm.policy(state))
    obs, _ = env.reset(jax.random.key(0), level)
    action, _ = load_policy(tmp_path / "p", algorithm, a2c.Hypers(), level)(obs)
    assert action.shape == () and jnp.issubdtype(action.dtype, jnp.integer)


def test_a_policy_of_another_config_is_refused(tmp_path):
    save_policy(tmp_path / "policy", PPO, PPO.policy(fresh(PPO, ENV_PARAMS, ppo.Hypers())))
    other = ppo.make(ppo.Config(hidden=(16,)), ENV)
    with pytest.raises(CheckpointError, match=r"was trained with algos.ppo.Config\(.*hidden=\[8\]"):
        load_policy(tmp_path / "policy", other, ppo.Hypers(), ENV_PARAMS)
    forked = PPO._replace(
        config=type("Config", (ppo.Config,), {})(**dataclasses.asdict(PPO.config))
    )
    with pytest.raises(
        CheckpointError, match=r"trained with algos.ppo.Config\(.*, not with test_evaluate"
    ):
        load_policy(tmp_path / "policy", forked, ppo.Hypers(), ENV_PARAMS)
    with pytest.raises(CheckpointError, match="has no readable manifest"):
        load_policy(tmp_path / "nowhere", PPO, ppo.Hypers(), ENV_PARAMS)


def test_a_checkpoint_of_a_run_is_refused_as_a_policy(tmp_path):
    checkpoint.save(tmp_path / "c", {"x": jnp.zeros(1)}, {"update": 4})
    with pytest.raises(CheckpointError, match="c: is a checkpoint of a run and not a policy"):
        load_policy(tmp_path / "c", PPO, ppo.Hypers(), ENV_PARAMS)


def test_a_policy_can_be_kept_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_policy("~/my [best] policy", PPO, PPO.policy(fresh(PPO, ENV_PARAMS, ppo.Hypers())))
    assert (tmp_path / "my [best] policy").is_dir()
    load_policy("~/my [best] policy", PPO, ppo.Hypers(), ENV_PARAMS)


@pytest.mark.parametrize("invalid", [{"num_episodes": 0}, {"num_episodes": 2.5}, {"max_steps": 0}])
def test_the_number_of_episodes_and_steps_is_checked(invalid):
    [(name, value)] = invalid.items()
    policy = PPO.policy(fresh(PPO, ENV_PARAMS, ppo.Hypers()))
    options = {"num_episodes": 1, "greedy": True, "max_steps": 1, **invalid}
    with pytest.raises(ValueError, match=f"evaluate: {name}: {value} is not valid"):
        evaluate(PPO, ENV, jax.random.key(0), policy, ENV_PARAMS, **options)
