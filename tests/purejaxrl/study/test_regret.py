"""The regret of levels: by level and replicate, in chunks that are kept, and who ranks highest."""

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.study import horizons, regret
from tests.purejaxrl.study.peak import contender


def measure(tmp_path, monkeypatch, chunk=4):
    """Measure levels 0 … 9 twice: who learns at rate r ends with level · r, and some noise."""
    sizes = []

    def make_lives(algorithm, env, num_levels, num_episodes):
        def lives(hypers, keys, levels, horizon):
            sizes.append(len(levels))
            return levels * hypers.rate + horizon * jax.vmap(jax.random.uniform)(keys)

        return lives

    monkeypatch.setattr(horizons, "make_lives", make_lives)
    levels, keys = jnp.arange(10.0), jax.random.split(jax.random.key(0), (2, 10))
    found = regret.measure(
        contender("agent", 1.0, {}, rate=1.0),
        contender("antagonist", 1.0, {}, rate=3.0),
        levels=levels,
        keys=keys,
        lives=horizons.KeptLives(object(), 2, tmp_path),
        horizon=5,
        chunk=chunk,
    )
    noise = 5 * np.array(jax.vmap(jax.vmap(jax.random.uniform))(keys))
    return found, noise, sizes


def test_regret_is_the_antagonists_return_minus_the_agents(tmp_path, monkeypatch):
    found, noise, _ = measure(tmp_path, monkeypatch)
    np.testing.assert_allclose(found.agent, np.arange(10) + noise, rtol=1e-6)
    np.testing.assert_allclose(found.antagonist, 3 * np.arange(10) + noise, rtol=1e-6)
    np.testing.assert_allclose(found.mean, 2 * np.arange(10), atol=1e-5)


def test_chunks_that_were_measured_are_not_measured_again(tmp_path, monkeypatch):
    first, _, sizes = measure(tmp_path, monkeypatch)
    assert sizes == 4 * [4] + 4 * [4] + 4 * [2]
    next(tmp_path.glob("*.csv")).unlink()
    second, _, sizes = measure(tmp_path, monkeypatch)
    assert len(sizes) == 1
    np.testing.assert_array_equal(first.each, second.each)


def test_levels_without_a_finite_regret_rank_last():
    scores = np.array([1.0, np.nan, 3.0, -np.inf, 2.0])
    assert regret.highest(scores, 3).tolist() == [2, 4, 0]
    assert regret.highest(scores, 5).tolist()[3:] == [1, 3]


def test_the_correlation_of_replicates_is_0_for_noise_and_1_for_equal_ones():
    noise = np.random.default_rng(0).normal(size=(2, 10_000))
    assert abs(regret.Regrets(np.zeros_like(noise), noise).correlation()) < 0.05
    assert regret.Regrets(np.zeros_like(noise), np.tile(noise[0], (2, 1))).correlation() == 1
    assert np.isnan(regret.Regrets(noise[:1], noise[:1]).correlation())
