"""The replay buffer holds the latest items, and draws only what was written."""

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.parts.replay import Replay


def items(*numbers):
    """Items of two leaves: an observation of two numbers, and a reward."""
    values = jnp.array(numbers, jnp.float32)
    return {"obs": jnp.stack([values, -values], -1), "reward": values}


def written(num_writes):
    """A buffer of 6 items after writes of 2 each: 0 and 1, then 2 and 3, …"""
    replay = Replay.start(items(0, 0), 6)
    for i in range(num_writes):
        replay = replay.write(items(2 * i, 2 * i + 1))
    return replay


def test_items_are_written_over_the_oldest():
    assert written(0).capacity == 6
    np.testing.assert_array_equal(written(2).contents["reward"], [0, 1, 2, 3, 0, 0])
    full = written(4)
    np.testing.assert_array_equal(full.contents["reward"], [6, 7, 2, 3, 4, 5])
    np.testing.assert_array_equal(full.contents["obs"][:, 1], -full.contents["reward"])


def test_the_newest_items_are_found_across_the_end_of_the_ring():
    for num_writes, expected in ((1, [0, 1]), (3, [4, 5]), (4, [6, 7]), (8, [14, 15])):
        replay = written(num_writes)
        np.testing.assert_array_equal(replay.read(replay.newest(2))["reward"], expected)
    np.testing.assert_array_equal(written(4).read(written(4).newest(4))["reward"], [4, 5, 6, 7])


def test_the_count_does_not_grow_with_the_length_of_a_run():
    assert [int(written(n).written) for n in (0, 1, 3, 5, 6, 8, 9)] == [0, 2, 6, 10, 6, 10, 6]


def test_only_written_items_are_drawn_and_all_of_them():
    for num_writes, expected in ((1, {0, 1}), (2, {0, 1, 2, 3}), (5, {4, 5, 6, 7, 8, 9})):
        replay = written(num_writes)
        found = replay.read(replay.draw(jax.random.key(0), 200))["reward"]
        assert set(np.asarray(found).tolist()) == expected
