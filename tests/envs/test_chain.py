import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from envs import chain
from envs.chain import DelayedChain, DistractedChain
from tests.envs.simulate import assert_mean, episodes

ENV = DelayedChain(min_length=5, max_length=30)
RUNNING, TERMINATED, TRUNCATED = (False, False), (True, False), (False, True)


def level(length, *, right=1.0, noise=0.0, limit=30):
    """A chain, of one length or of (shortest, longest)."""
    shortest, longest = length if isinstance(length, tuple) else (length, length)
    return chain.Level(
        min_length=np.int32(shortest),
        max_length=np.int32(longest),
        one_is_right_prob=np.float32(right),
        noise=np.float32(noise),
        max_steps_in_episode=np.int32(limit),
    )


def player(env):
    """A function that plays the same first action, then another, without auto-reset."""

    @jax.jit
    def play(params, first, later):
        reset_key, step_key = jax.random.split(jax.random.key(0))
        initial, state = env.reset_env(reset_key, params)

        def step(state, key):
            action = jnp.where(state.time == 0, first, later)
            obs, state, reward, terminated, _ = env.step_env(key, state, action, params)
            return state, (obs, reward, terminated, env.is_truncated(state, params))

        _, (obs, *out) = jax.lax.scan(step, state, jax.random.split(step_key, 30))
        return jnp.concatenate([initial[None], obs]), *out

    return play


play = player(ENV)


@jax.jit
def rewards_of(params, right):
    """Rewards of 3000 episodes that choose the right first action, or the other."""

    def policy(state):
        return jnp.where(right, state.right_action, 1 - state.right_action)

    return episodes(ENV, params, policy, 30, 3000)


reset_all = jax.jit(jax.vmap(ENV.reset_env, in_axes=(0, None)))


@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("later", [0, 1])
def test_the_first_action_alone_decides_what_the_end_pays(right, first, later):
    obs, reward, terminated, truncated = play(level(5, right=right), first, later)
    took = int(first == right)
    assert obs[:6].tolist() == [right] + [2 * t + took for t in range(1, 6)]
    assert reward[:5].tolist() == [0, 0, 0, 0, 2 * took - 1]
    assert terminated[:5].tolist() == [False, False, False, False, True]
    assert not truncated[:5].any()


def test_a_chain_may_have_one_step():
    _, reward, terminated, _ = play(level(1), 1, 0)
    assert (reward[0], terminated[0]) == (1, True)


def test_noise_comes_with_every_step_but_the_last_and_is_fair():
    rewards = np.asarray(rewards_of(level(30, noise=0.5), True))
    noise, last = rewards[:, :-1], rewards[:, -1]
    assert set(np.unique(noise)) == {-0.5, 0.5}
    assert (last == 1).all()
    assert stats.binomtest(int((noise > 0).sum()), noise.size).pvalue > 1e-4
    correlation = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(noise.size)


def test_a_random_delay_is_uniform_and_new_in_every_episode():
    params = level((5, 30))
    _, state = reset_all(jax.random.split(jax.random.key(1), 5200), params)
    counts = np.bincount(state.length, minlength=31)
    assert counts[:5].sum() == 0
    assert stats.chisquare(counts[5:]).pvalue > 1e-4
    assert (state.right_action == params.one_is_right_prob).all()


def test_the_right_action_may_be_new_in_every_episode():
    params = level(5, right=0.25)
    obs, state = reset_all(jax.random.split(jax.random.key(1), 5200), params)
    assert stats.binomtest(int(state.right_action.sum()), 5200, 0.25).pvalue > 1e-4
    np.testing.assert_array_equal(obs, state.right_action)
    assert_mean(rewards_of(params, True).sum(1), 1)


@pytest.mark.parametrize(
    ("make", "longest", "noise"),
    [
        (chain.short, 30, 0),
        (chain.long, 50, 0),
        (chain.short_noisy, 30, 1),
        (chain.long_noisy, 50, 1),
        (chain.distracted, 30, 0),
    ],
)
def test_the_published_variants(make, longest, noise):
    env = make()
    levels = jax.vmap(env.sample_level)(jax.random.split(jax.random.key(0), 5000))
    np.testing.assert_array_equal(levels.min_length, levels.max_length)
    assert set(np.unique(levels.max_length)) == set(range(5, longest + 1))
    assert set(np.unique(levels.one_is_right_prob)) == {0, 1}
    assert set(np.unique(levels.noise)) == {noise}
    np.testing.assert_array_equal(jax.vmap(env.optimal_return)(levels), 1)
    assert (levels.max_steps_in_episode == longest).all()


@settings(max_examples=20, deadline=None)
@given(
    shortest=st.integers(1, 6),
    more=st.integers(0, 6),
    limit=st.integers(1, 14),
    noise=st.sampled_from([0.0, 1.0]),
)
def test_the_optimum_is_what_the_right_action_earns(shortest, more, limit, noise):
    params = level((shortest, shortest + more), right=0.5, noise=noise, limit=limit)
    optimum = ENV.optimal_return(params)
    in_time = [length <= limit for length in range(shortest, shortest + more + 1)]
    np.testing.assert_allclose(optimum, np.mean(in_time), rtol=1e-6)
    assert_mean(rewards_of(params, True).sum(1), optimum)
    assert_mean(rewards_of(params, False).sum(1), -optimum)


@pytest.mark.parametrize(
    ("limit", "flags", "last"),
    [(3, [RUNNING, RUNNING, TRUNCATED], 0), (5, 4 * [RUNNING] + [TERMINATED], 1)],
)
def test_a_time_limit_truncates_and_an_end_terminates_never_both(limit, flags, last):
    _, reward, terminated, truncated = play(level(5, limit=limit), 1, 1)
    assert list(zip(terminated.tolist(), truncated.tolist(), strict=True))[:limit] == flags
    assert reward[limit - 1] == last


def test_every_observation_lies_in_its_space_and_has_its_type():
    space = ENV.observation_space()
    obs, *_ = play(level(30), 1, 1)
    assert (obs.shape[1:], obs.dtype) == (space.shape, space.dtype)
    assert space.contains(obs).all()
    assert len(np.unique(obs)) == 31
    assert (space.n, obs[-1]) == (62, 61)


def test_distractors_hide_the_two_informative_bits():
    env = DistractedChain(num_distractors=20)
    space = env.observation_space()
    obs, reward, *_ = player(env)(level(8, right=0), 0, 0)
    obs = np.asarray(obs[:9])
    assert (obs.shape[1:], obs.dtype) == (space.shape, space.dtype)
    assert set(np.unique(obs)) == {0, 1}
    np.testing.assert_array_equal(obs[:, 0], 0)
    np.testing.assert_array_equal(obs[:, 1], [0] + 8 * [1])
    assert len(np.unique(obs[:, 2:], axis=0)) == 9  # they change with every step
    assert reward[7] == 1


def test_random_bits_are_fair_and_tell_nothing():
    env = DistractedChain()
    keys = jax.random.split(jax.random.key(0), 4000)
    obs, _ = jax.jit(jax.vmap(env.reset_env, in_axes=(0, None)))(keys, level(5, right=0.5))
    obs = np.asarray(obs, int)
    bits, agrees = obs[:, 2:], obs[:, 2:] == obs[:, :1]
    for coin in (bits, agrees):
        assert stats.binomtest(int(coin.sum()), coin.size).pvalue > 1e-4


def test_levels_are_batched_and_episodes_follow_each_other():
    env = chain.short_noisy()

    @jax.jit
    @jax.vmap
    def run(key):
        level_key, reset_key, step_key = jax.random.split(key, 3)
        params = env.sample_level(level_key)
        _, state = env.reset(reset_key, params)

        def step(state, key):
            _, state, reward, terminated, truncated, _ = env.step(key, state, 1, params)
            return state, (reward, terminated, truncated)

        return params, jax.lax.scan(step, state, jax.random.split(step_key, 100))[1]

    params, (rewards, terminated, truncated) = run(jax.random.split(jax.random.key(0), 16))
    assert rewards.dtype == jnp.float32
    assert not truncated.any()
    np.testing.assert_array_equal(terminated.sum(1), 100 // params.max_length)
    sign = 2 * params.one_is_right_prob - 1
    np.testing.assert_array_equal(rewards[terminated], np.repeat(sign, 100 // params.max_length))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_length": 0}, r"DelayedChain.min_length: 0 is not valid; .* >= 1"),
        ({"max_length": 2.5}, r"DelayedChain.max_length: 2.5 is not valid"),
        ({"min_length": 9, "max_length": 8}, r"min_length: 9 .* at most max_length, 8"),
        ({"noise": -1.0}, r"DelayedChain.noise: -1.0 is not valid"),
        ({"noise": float("nan")}, r"DelayedChain.noise: nan is not valid"),
    ],
)
def test_settings_that_are_not_valid(settings, message):
    with pytest.raises(ValueError, match=message):
        DelayedChain(**settings)


def test_a_number_of_distractors_that_is_not_valid():
    with pytest.raises(ValueError, match=r"DistractedChain.num_distractors: 0 is not valid"):
        DistractedChain(num_distractors=0)
