"""Datasets: episodes, pieces that cross no end, weights, and what is read of a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purejaxrl.parts.dataset import (
    Dataset,
    Episodes,
    observation_moments,
    read_pieces,
    starts_of_pieces,
    weigh_by_advantage,
    weigh_by_return,
)
from purejaxrl.parts.transitions import Step

LENGTHS, ENDS = (3, 1, 4), ("terminated", "truncated", "terminated")
"""Of three episodes."""


def dataset(rewards=None):
    """Eight steps whose observation is their place, and whose action is minus a tenth of it."""
    place = jnp.arange(sum(LENGTHS), dtype=jnp.float32)
    last = dict(zip(np.cumsum(LENGTHS) - 1, ENDS, strict=True))
    terminated, truncated = (
        jnp.array([last.get(int(i)) == kind for i in place]) for kind in ("terminated", "truncated")
    )
    reward = place if rewards is None else jnp.asarray(rewards, jnp.float32)
    obs = place[:, None]
    return Dataset(Step(obs, -0.1 * obs, reward, terminated, truncated, obs + 0.5))


def shares(weighted):
    """Probability of each step."""
    return np.diff(np.asarray(weighted.cumulative, np.float64), prepend=0) / 2**32


def test_episodes_are_found_with_their_returns():
    episodes = Episodes.of(dataset())
    np.testing.assert_array_equal(episodes.start, [0, 3, 4])
    np.testing.assert_array_equal(episodes.end, [3, 4, 8])
    np.testing.assert_array_equal(episodes.ret, [0 + 1 + 2, 3, 4 + 5 + 6 + 7])


def test_only_a_termination_has_no_bootstrap():
    batch = dataset().read(jnp.array([1, 2, 3]), 0.9)
    np.testing.assert_allclose(batch.discount, [0.9, 0.0, 0.9])
    np.testing.assert_allclose(batch.next_obs[:, 0], [1.5, 2.5, 3.5])


def test_a_step_has_a_next_action_unless_its_episode_ends():
    action, is_known = dataset().next_actions(jnp.arange(8))
    np.testing.assert_array_equal(is_known, [1, 1, 0, 0, 1, 1, 1, 0])
    np.testing.assert_allclose(action[jnp.array([0, 4, 6]), 0], [-0.1, -0.5, -0.7])


def test_pieces_cross_no_end():
    starts = starts_of_pieces(dataset(), 3)
    np.testing.assert_array_equal(starts, [0, 4, 5])
    pieces = read_pieces(dataset(), jnp.asarray(starts), 3)
    np.testing.assert_array_equal(pieces.obs[..., 0], [[0, 1, 2], [4, 5, 6], [5, 6, 7]])


def test_a_piece_longer_than_every_episode_is_refused():
    with pytest.raises(ValueError, match="length: 5 is not valid; the longest episode .* 4 steps"):
        starts_of_pieces(dataset(), 5)


def test_weights_by_return_are_the_softmax_of_scaled_returns():
    weighted = weigh_by_return(dataset(), temperature=0.5)
    scaled = (np.array([3, 3, 22]) - 3) / 19
    weight = np.repeat(np.exp(scaled / 0.5), LENGTHS)
    drawn = np.asarray(weighted.draw(jax.random.key(0), 20_000))
    counts = np.bincount(drawn, minlength=8)
    assert stats.chisquare(counts, 20_000 * weight / weight.sum()).pvalue > 1e-3


def test_weights_by_advantage_take_off_what_the_first_observation_explains():
    """The first observations are 0, 3, 4; returns 1, 7, 9 are 2 s + 1, so that nothing is left."""
    explained = dataset([1, 0, 0, 7, 9, 0, 0, 0])
    np.testing.assert_allclose(shares(weigh_by_advantage(explained)), 1 / 8, atol=1e-6)
    assert shares(weigh_by_return(explained))[0] < 1e-3
    lucky = dataset([1, 0, 0, 7.5, 9, 0, 0, 0])
    assert shares(weigh_by_advantage(lucky)).argmax() == 3


def test_weights_by_advantage_take_numbers_of_states_as_categories():
    """As tables have them: the first states are 4, 0 and 4; state 0 alone explains its return."""
    steps = dataset([1, 0, 0, 7, 5, 0, 0, 0]).steps
    obs = jnp.array([4, 1, 1, 0, 4, 2, 3, 3]), jnp.zeros(8)
    found = shares(
        weigh_by_advantage(Dataset(steps._replace(obs=obs))),
    )
    expected = shares(weigh_by_return(dataset([-2, 0, 0, 0, 2, 0, 0, 0])))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_equal_returns_leave_all_steps_alike():
    weighted = weigh_by_return(dataset(np.repeat([1 / 3, 1, 1 / 4], LENGTHS)))
    np.testing.assert_allclose(shares(weighted), 1 / 8, atol=1e-6)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="temperature: 0 is not valid"):
        weigh_by_return(dataset(), 0)


def test_moments_are_those_of_the_observations():
    moments = observation_moments(dataset(), True)
    np.testing.assert_allclose(moments.mean, [3.5])
    np.testing.assert_allclose(moments.var, [np.arange(8).var()], rtol=1e-6)
    assert observation_moments(dataset(), False) is None
