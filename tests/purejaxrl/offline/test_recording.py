"""Recordings: environments one after the other, which can be cut and joined."""

import jax.numpy as jnp
import numpy as np

from purejaxrl.offline.record import cut, in_order, join
from purejaxrl.parts.transitions import Step


def steps(reward, terminated, truncated):
    one = jnp.zeros((len(reward), 1))
    ends = jnp.array(terminated, bool), jnp.array(truncated, bool)
    return Step(one, one, jnp.array(reward, jnp.float32), *ends, one)


def test_environments_side_by_side_become_one_after_the_other():
    side_by_side = steps([0, 10, 1, 11, 2, 12], [0, 0, 0, 0, 0, 1], [0] * 6)
    found = in_order(side_by_side, 2).steps
    np.testing.assert_array_equal(found.reward, [0, 1, 2, 10, 11, 12])
    np.testing.assert_array_equal(found.terminated, [0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(found.truncated, [0, 0, 1, 0, 0, 0])


def test_the_last_episode_of_a_cut_dataset_is_truncated_unless_it_had_ended():
    whole = in_order(steps([0, 1, 2, 3], [0, 1, 0, 0], [0, 0, 0, 1]), 1)
    np.testing.assert_array_equal(cut(whole, 3).steps.truncated, [0, 0, 1])
    np.testing.assert_array_equal(cut(whole, 2).steps.truncated, [0, 0])
    both = join([cut(whole, 3), cut(whole, 2)])
    assert both.num_steps == 5
    np.testing.assert_array_equal(both.steps.reward, [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(both.steps.truncated | both.steps.terminated, [0, 1, 1, 0, 1])
