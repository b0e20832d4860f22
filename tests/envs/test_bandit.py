import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtr

from envs.bandit import (
    BernoulliBandit,
    ContextualBandit,
    ContextualLevel,
    GaussianBandit,
    GaussianLevel,
    Level,
    NonStationaryBandit,
    NonStationaryLevel,
    mean_cdf,
)
from tests.envs.simulate import assert_mean, episodes

ALL = [BernoulliBandit, GaussianBandit, ContextualBandit, NonStationaryBandit]


@pytest.mark.parametrize("kind", ALL)
def test_an_episode_is_cut_after_its_pulls_and_never_terminates(kind):
    env = kind(num_arms=3, max_steps_in_episode=4)

    @jax.jit
    def run(key):
        params = env.default_params
        first, state = env.reset(key, params)

        def step(state, key):
            obs, state, reward, terminated, truncated, _ = env.step(key, state, 2, params)
            return state, (obs, reward, terminated, truncated)

        return first, jax.lax.scan(step, state, jax.random.split(key, 9))[1]

    first, (obs, reward, terminated, truncated) = run(jax.random.key(1))
    space = env.observation_space(env.default_params)
    assert (first.shape, first.dtype) == (space.shape, space.dtype)
    assert reward.dtype == jnp.float32
    assert space.contains(obs).all()
    assert not terminated.any()
    assert np.flatnonzero(truncated).tolist() == [3, 7]
    assert env.num_actions == env.action_space().n == 3


@pytest.mark.parametrize("kind", ALL)
def test_the_oracle_earns_the_optimum_on_every_level(kind):
    env = kind(num_arms=4, max_steps_in_episode=15)

    @jax.jit
    @jax.vmap
    def run(key):
        params = env.sample_level(key)
        returns = episodes(env, params, lambda state: state.means.argmax(), 15, 4000).sum(1)
        return returns, env.optimal_return(params)

    returns, optima = run(jax.random.split(jax.random.key(0), 3))
    for i in range(3):
        assert_mean(returns[i], optima[i])


def pulls(env, params, num_pulls=4000):
    """Rewards of every arm's first pull, `[num_arms, num_pulls]`; contexts before and after."""

    def pull(arm, key):
        reset_key, step_key = jax.random.split(key)
        before, state = env.reset_env(reset_key, params)
        after, _, reward, *_ = env.step_env(step_key, state, arm, params)
        return reward, before, after

    arms, keys = jnp.arange(env.num_arms), jax.random.split(jax.random.key(0), num_pulls)
    out = jax.jit(jax.vmap(jax.vmap(pull, in_axes=(None, 0)), in_axes=(0, None)))(arms, keys)
    return map(np.asarray, out)


def test_bernoulli_arms_pay_one_or_nothing():
    env = BernoulliBandit(num_arms=3)
    params = Level(jnp.array([0.0, 0.3, 1.0]), jnp.int32(7))
    rewards, before, after = pulls(env, params)
    assert set(np.unique(rewards)) == {0, 1}
    for arm, mean in enumerate([0, 0.3, 1]):
        assert stats.binomtest(int(rewards[arm].sum()), 4000, mean).pvalue > 1e-4
    assert not before.any()
    assert not after.any()
    assert env.optimal_return(params) == 7


def test_gaussian_arms_pay_their_own_normal():
    env = GaussianBandit(num_arms=2)
    params = GaussianLevel(jnp.array([-1.0, 2.5]), jnp.int32(10), jnp.array([0.5, 2.0]))
    rewards, _, _ = pulls(env, params)
    assert stats.kstest(rewards[0], stats.norm(-1, 0.5).cdf).pvalue > 1e-4
    assert stats.kstest(rewards[1], stats.norm(2.5, 2).cdf).pvalue > 1e-4
    assert env.optimal_return(params) == 25


def test_a_context_is_observed_decides_the_means_and_is_drawn_for_every_pull():
    env = ContextualBandit(num_contexts=2, num_arms=2)
    means, probs = jnp.array([[1.0, 0.0], [-3.0, 5.0]]), jnp.array([0.25, 0.75])
    params = ContextualLevel(means, jnp.int32(6), jnp.full(2, 0.1), probs)
    rewards, before, after = pulls(env, params)
    for context in (before[0], after[0]):
        assert stats.binomtest(int(context.sum()), 4000, 0.75).pvalue > 1e-4
    assert abs(np.corrcoef(before[0], after[0])[0, 1]) < 4 / np.sqrt(4000)
    for arm in range(2):
        noise = rewards[arm] - np.asarray(means)[before[arm], arm]
        assert stats.kstest(noise, stats.norm(0, 0.1).cdf).pvalue > 1e-4
    assert env.optimal_return(params) == 6 * (0.25 * 1 + 0.75 * 5)


def test_sampled_levels_have_the_laws_they_should():
    for kind in ALL:
        env = kind(num_arms=4000, max_steps_in_episode=15)
        level = env.sample_level(jax.random.key(0))
        means = np.asarray(level.means)
        assert means.shape == env.means_shape and level.max_steps_in_episode == 15
        if issubclass(kind, BernoulliBandit):
            assert 0 <= means.min() <= means.max() <= 1
            assert stats.kstest(means, stats.uniform.cdf).pvalue > 1e-4
        else:
            assert np.isfinite(means).all() and (level.std == np.ones(4000)).all()
            assert stats.kstest(means.ravel(), stats.norm.cdf).pvalue > 1e-4
        if kind is ContextualBandit:
            np.testing.assert_allclose(level.context_prob, [0.2] * 5)
        if kind is NonStationaryBandit:
            assert (level.walk_std, level.switch_prob) == (np.float32(0.05), 0)


def changing(means, limit=100, walk_std=0.0, switch_prob=0.0):
    return NonStationaryLevel(
        np.float32(means), np.int32(limit), np.float32(walk_std), np.float32(switch_prob)
    )


THREE = NonStationaryBandit(num_arms=3)
optimum_of_three = jax.jit(THREE.optimal_return)
cdf_jit = jax.jit(mean_cdf)


@jax.jit
def means_after(params, num_pulls):
    """Means of the arms in 4000 episodes: `[4000, 3]`."""

    def run(keys):
        _, state = THREE.reset_env(keys[0], params)
        step = lambda i, state: THREE.step_env(keys[i], state, 0, params)[1]  # noqa: E731
        return jax.lax.fori_loop(0, num_pulls, step, state).means

    return jax.vmap(run)(jax.random.split(jax.random.key(7), (4000, 40)))


@pytest.mark.parametrize(
    ("walk_std", "switch_prob", "num_pulls"),
    [(0.02, 0, 4), (0.2, 0, 3), (0.3, 0, 40), (0.1, 0.1, 10), (3.0, 0, 1), (0, 1, 1)],
)
def test_means_have_the_law_by_which_the_optimum_is_computed(walk_std, switch_prob, num_pulls):
    params = changing([0.02, 0.5, 0.9], 100, walk_std, switch_prob)
    means = np.asarray(means_after(params, num_pulls))
    assert 0 <= means.min() <= means.max() <= 1
    for arm in range(3):
        cdf = lambda x, arm=arm: cdf_jit(params, num_pulls, np.float32(x))[arm]  # noqa: E731
        assert stats.kstest(means[:, arm], cdf).pvalue > 1e-4
    correlation = np.corrcoef(means.T)
    assert abs(correlation[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(4000)


@pytest.mark.parametrize("walk_std", [1e-4, 0.01, 0.3, 1.9, 2.0, 50.0])
def test_the_law_of_the_means_is_a_distribution_on_the_unit_interval(walk_std):
    x = np.linspace(0, 1, 4000, dtype=np.float32)
    cdf = cdf_jit(changing([0.0, 0.33, 1.0], 1, walk_std), 1, x)
    assert (np.diff(cdf) > -1e-5).all()
    np.testing.assert_allclose(cdf[:, 0], 0, atol=1e-5)
    np.testing.assert_allclose(cdf[:, -1], 1, atol=1e-5)
    if walk_std >= 2:  # where it began is forgotten
        np.testing.assert_allclose(cdf, np.tile(x, (3, 1)), atol=1e-5)


def test_arms_that_switch_have_a_closed_form():
    # The best of n uniform arms has mean n / (n + 1).
    always = changing([0.1, 0.2, 0.3], 10, switch_prob=1.0)
    np.testing.assert_allclose(optimum_of_three(always), 0.3 + 9 * 3 / 4, rtol=1e-5)
    # P(every arm <= x) is (s + u x)^2 (s [x >= 0.8] + u x), with s the probability to have stayed.
    s = 0.9 ** np.arange(1, 20)
    u = 1 - s
    below = u * (s**2 / 2 + 2 * s * u / 3 + u**2 / 4) + s * (1 - (s + 0.8 * u) ** 3) / (3 * u)
    optimum = optimum_of_three(changing([0, 0, 0.8], 20, switch_prob=0.1))
    np.testing.assert_allclose(optimum, 0.8 + np.sum(1 - below), rtol=1e-5)


def test_arms_that_never_change_are_bernoulli_arms():
    for means in ([0.3, 0.7, 0.7], [0.0, 1e-4, 0.0], [1.0, 0.2, 1.0]):
        optimum = optimum_of_three(changing(means, 50))
        np.testing.assert_allclose(optimum, 50 * max(means), rtol=1e-4, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(
    means=st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
    walk_std=st.sampled_from([1e-3, 0.01, 0.05, 0.3, 1.0]),
    switch_prob=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_the_optimum_agrees_with_a_fine_integral_in_float64(means, walk_std, switch_prob):
    x, total = np.linspace(0, 1, 20_001), max(means)
    for time in range(1, 6):
        stayed = (1 - switch_prob) ** time
        below = np.ones_like(x)
        for mean in means:
            laws = [mirrored(x, 2 * k, mean, walk_std * np.sqrt(time)) for k in range(-6, 7)]
            below *= stayed * np.sum(laws, 0) + (1 - stayed) * x
        total += np.trapezoid(1 - below, x)
    optimum = optimum_of_three(changing(means, 6, walk_std, switch_prob))
    np.testing.assert_allclose(optimum, total, atol=5e-4)


def mirrored(x, image, mean, std):
    """Probability that a normal lies between the images of 0 and x."""
    return ndtr((image + x - mean) / std) - ndtr((image - x - mean) / std)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (BernoulliBandit, {"num_arms": 0}, r"BernoulliBandit.num_arms: 0 is not valid"),
        (GaussianBandit, {"max_steps_in_episode": 0}, r"GaussianBandit.max_steps_in_episode: 0"),
        (ContextualBandit, {"num_contexts": 0}, r"ContextualBandit.num_contexts: 0 is not valid"),
        (NonStationaryBandit, {"walk_std": -1}, r"NonStationaryBandit.walk_std: -1 is not valid"),
        (NonStationaryBandit, {"switch_prob": 2}, r".switch_prob: 2 is not valid; .* \[0, 1\]"),
    ],
)
def test_settings_that_are_not_valid(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)
