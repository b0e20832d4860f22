"""Lives: staggered beginnings, and replacement that costs as much as there is to replace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.meta.lifetime import for_finished, replace_each, select, staggered


def test_first_lives_end_evenly():
    ends = [int(staggered(jnp.int32(100), jnp.int32(i), 4)) for i in range(4)]
    assert ends == [25, 50, 75, 100]


def test_a_first_life_is_never_empty():
    assert int(staggered(jnp.int32(3), jnp.int32(0), 50)) == 1


def test_select_chooses_keys_too():
    a, b = ({"key": jax.random.key(i), "x": jnp.float32(i)} for i in range(2))
    for condition, wanted in ((True, a), (False, b)):
        chosen = jax.jit(select)(jnp.bool_(condition), a, b)
        assert chosen["x"] == wanted["x"]
        np.testing.assert_array_equal(
            jax.random.key_data(chosen["key"]), jax.random.key_data(wanted["key"])
        )


@pytest.mark.parametrize("finished", [[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 1]])
def test_whoever_is_finished_is_replaced_and_nobody_else(finished):
    agents = {"key": jax.random.split(jax.random.key(0), 4), "x": jnp.arange(8.0).reshape(4, 2)}
    finished = np.array(finished, bool)
    replacement = lambda agent, i: {"key": jax.random.split(agent["key"])[0], "x": -agent["x"] - 1}  # noqa: E731
    after = jax.jit(lambda *args: replace_each(*args, replacement))(agents, finished)
    expected = np.where(finished[:, None], -agents["x"] - 1, agents["x"])
    np.testing.assert_array_equal(after["x"], expected)
    changed = (jax.random.key_data(after["key"]) != jax.random.key_data(agents["key"])).any(1)
    np.testing.assert_array_equal(changed, finished)


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
@pytest.mark.parametrize("finished", [[0, 0, 0, 0, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1]])
def test_all_who_are_finished_are_judged_however_many_slots_there_are(slots, finished):
    finished, x = np.array(finished, bool), jnp.arange(10.0).reshape(5, 2)
    judge = jax.jit(lambda x, f: for_finished(lambda x: (x.sum(), x), x, f, slots))
    total, same = judge(x, finished)
    np.testing.assert_array_equal(total, np.where(finished, x.sum(1), np.nan))
    np.testing.assert_array_equal(same, np.where(finished[:, None], x, np.nan))
