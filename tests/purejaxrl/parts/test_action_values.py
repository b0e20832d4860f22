"""ε-greedy actions, ε by age, and target networks."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.parts.action_values import epsilon_greedy, epsilon_of, of_action
from purejaxrl.parts.targets import track


def test_values_of_the_actions_taken():
    q = jnp.arange(12.0).reshape(2, 2, 3)
    action = jnp.array([[0, 2], [1, 1]])
    np.testing.assert_array_equal(of_action(q, action), [[0, 5], [7, 10]])


def test_epsilon_falls_linearly_and_stays():
    state = SimpleNamespace(step=jnp.array([0, 1, 2, 9]), task=SimpleNamespace(horizon=10))
    hypers = SimpleNamespace(epsilon_start=1.0, epsilon_end=0.2, exploration=0.2)
    np.testing.assert_allclose(epsilon_of(state, hypers), [1.0, 0.6, 0.2, 0.2], rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_the_best_action_is_taken_unless_a_coin_falls(epsilon):
    q = jnp.tile(jnp.array([0.0, 2.0, 1.0]), (30_000, 1))
    action = epsilon_greedy(jax.random.key(0), q, jnp.float32(epsilon))
    share = np.bincount(np.asarray(action), minlength=3) / len(action)
    expected = np.array([0, 1, 0]) * (1 - epsilon) + epsilon / 3
    np.testing.assert_allclose(share, expected, atol=0.01)


def test_a_target_network_averages_at_each_step():
    target = track({"x": jnp.array(1.0)}, {"x": jnp.array(3.0)}, 0.25)
    np.testing.assert_allclose(target["x"], 1.5)


def test_a_target_network_is_copied_every_third_step():
    target = {"x": jnp.array(0.0)}
    seen = []
    for count in range(1, 8):
        target = track(target, {"x": jnp.array(float(count))}, 1.0, count, 3)
        seen.append(float(target["x"]))
    assert seen == [0, 0, 3, 3, 3, 6, 6]
