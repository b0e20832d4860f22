"""The search for a policy to deploy: what it finds, and the two flaws that are mended."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.offline.protocol import Search, curve, deployed_return

FEW = Search(num_policies=4, num_episodes=30, num_trials=50)


def test_without_noise_the_best_is_known_once_all_were_tried():
    returns = jnp.repeat(jnp.arange(4.0)[:, None], 3, axis=1)
    found = np.asarray(deployed_return(jax.random.key(0), returns, FEW))
    assert found.shape == (50, 30)
    np.testing.assert_array_equal(found[:, 3:], 3.0)
    assert set(found[:, 0]) == {0.0, 1.0, 2.0, 3.0}  # ties are broken at random
    assert (np.diff(found, axis=1) >= 0).all()


def test_an_untried_policy_is_not_deployed_where_returns_are_negative():
    """After one episode the tried policy is deployed, whichever it is: the mean is that of all."""
    returns = jnp.repeat(-10.0 - jnp.arange(4.0)[:, None], 3, axis=1)
    many = FEW._replace(num_trials=2000, num_episodes=1)
    found = np.asarray(deployed_return(jax.random.key(0), returns, many))
    assert found.mean() == pytest.approx(-11.5, abs=0.1)


def draw_trials(key, num_all, num_stored, how):
    """Policies, numbers that break ties, and stored episodes of every trial of a search."""

    def of_trial(key):
        choice_key, search_key = jax.random.split(key)
        chosen = jax.random.choice(choice_key, num_all, (how.num_policies,), replace=False)
        keys = jax.vmap(jax.random.split)(jax.random.split(search_key, how.num_episodes))
        ties = jax.vmap(lambda key: jax.random.uniform(key, (how.num_policies,)))(keys[:, 0])
        episode = jax.vmap(lambda key: jax.random.randint(key, (), 0, num_stored))(keys[:, 1])
        return chosen, ties, episode

    draw = jax.jit(lambda key: jax.vmap(of_trial)(jax.random.split(key, how.num_trials)))
    return zip(*map(np.asarray, draw(key)), strict=True)


def search_by_ucb(returns, chosen, ties, episodes):
    """The mean return of the policy with the best mean so far, after each episode."""
    unit, pulled, deployed = (returns - returns.mean()) / returns.std(), {}, []
    for t, (tie, episode) in enumerate(zip(ties, episodes, strict=True), 1):
        untried = [arm for arm in range(len(chosen)) if arm not in pulled]
        if untried:
            arm = max(untried, key=lambda arm: tie[arm])
        else:
            arm = max(pulled, key=lambda arm: (
                np.mean(pulled[arm]) + np.sqrt(2 * np.log(t) / len(pulled[arm]))
            ))  # fmt: skip
        pulled.setdefault(arm, []).append(unit[chosen[arm], episode])
        best = max(pulled, key=lambda arm: np.mean(pulled[arm]))
        deployed.append(returns[chosen[best]].mean())
    return deployed


def test_policies_are_tried_by_upper_confidence_bounds():
    rng, how = np.random.default_rng(0), Search(num_policies=4, num_episodes=60, num_trials=20)
    returns = 3 * rng.normal(size=(6, 32)) + np.arange(6)[:, None] + 5
    found = deployed_return(jax.random.key(2), jnp.float32(returns), how)
    trials = draw_trials(jax.random.key(2), *returns.shape, how)
    expected = [search_by_ucb(returns, *trial) for trial in trials]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_curve_has_the_interval_that_holds_95_of_100_means():
    deployed = np.random.default_rng(1).normal(2.0, 3.0, size=(400, 50))
    mean, low, high = curve(deployed).T
    error = deployed.std(0) / np.sqrt(400)
    np.testing.assert_allclose(mean, deployed.mean(0))
    np.testing.assert_allclose(((mean - low) / error).mean(), 1.96, rtol=0.05)
    np.testing.assert_allclose(((high - mean) / error).mean(), 1.96, rtol=0.05)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_scale_of_returns_does_not_matter(scale):
    returns = jax.random.normal(jax.random.key(1), (8, 64)) + jnp.arange(8.0)[:, None] / 4
    one = deployed_return(jax.random.key(0), returns, FEW)
    other = deployed_return(jax.random.key(0), scale * returns + 5.0, FEW)
    np.testing.assert_allclose(other, scale * one + 5.0, rtol=1e-4, atol=1e-3)


def test_more_episodes_find_better_policies():
    returns = jax.random.normal(jax.random.key(1), (40, 256)) + jnp.arange(40.0)[:, None] / 20
    found = curve(deployed_return(jax.random.key(0), returns, Search(num_trials=200)))
    assert found[-1, 0] > found[19, 0] > found[0, 0]
    assert ((found[:, 1] <= found[:, 0]) & (found[:, 0] <= found[:, 2])).all()


@pytest.mark.parametrize("shape", [(3, 8), (30,)])
def test_too_few_policies_are_refused(shape):
    with pytest.raises(ValueError, match=r"returns: an array of shape .* at least 4 policies"):
        deployed_return(jax.random.key(0), jnp.zeros(shape), FEW)
