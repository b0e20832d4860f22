"""An ensemble on dynamics that are known: means, noise, terminations, and rollouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import dynamics_ensemble as ensemble
from purejaxrl.algorithm import make_train
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.normalize import Scale
from purejaxrl.parts.transitions import Step
from purejaxrl.parts.wrappers import for_network

PENDULUM, LEVEL = envs.make("Pendulum-v1")
CONFIG = ensemble.Config(num_models=3, batch_size=64, hidden=(32,))
LEARNER = ensemble.make(CONFIG, for_network(PENDULUM))
NOISE = 0.1


def recorded(size: int = 4096) -> Dataset:
    """Steps that add half of the action to the observation, and noise; high ones terminate."""
    obs_key, action_key, noise_key = jax.random.split(jax.random.key(0), 3)
    obs = jax.random.normal(obs_key, (size, 3))
    action = jax.random.uniform(action_key, (size, 1), minval=-1, maxval=1)
    after = obs + 0.5 * action + NOISE * jax.random.normal(noise_key, obs.shape)
    never = jnp.zeros(size, bool)
    return Dataset(Step(obs, action, 2 * obs[:, 0], obs[:, 1] > 1, never, after))


@pytest.fixture(scope="module")
def learned() -> ensemble.Ensemble:
    train = jax.jit(make_train(LEARNER, 2000))
    state, metrics = train(jax.random.key(0), ensemble.Hypers(recorded(), 5e-3), LEVEL)
    assert metrics["loss"][-100:].mean() < metrics["loss"][:100].mean()
    return LEARNER.policy(state)


def roll(learned: ensemble.Ensemble, obs: jax.Array, action: float, length: int) -> Step:
    act = lambda key, obs: jnp.full((len(obs), 1), action)  # noqa: E731
    return ensemble.roll_out(jax.random.key(1), CONFIG, learned, obs, act, length)


def test_rollouts_follow_the_dynamics_with_their_noise(learned):
    obs = jnp.tile(jnp.array([0.5, -0.5, 0.0]), (2048, 1))
    made = roll(learned, obs, 0.8, 1)
    change = np.asarray(made.next_obs - made.obs)[:, 0]
    np.testing.assert_allclose(change.mean(0), 0.4, atol=0.03)
    np.testing.assert_allclose(change.std(0), NOISE, rtol=0.2)
    np.testing.assert_allclose(made.reward.mean(), 1.0, atol=0.1)


def test_rollouts_terminate_where_the_data_do(learned):
    obs = jnp.array([[0.0, -1.0, 0.0], [0.0, 2.5, 0.0]])
    made = roll(learned, jnp.repeat(obs, 256, axis=0), 0.0, 1)
    low, high = made.terminated.reshape(2, -1).mean(-1)
    assert low < 0.05 < 0.95 < high


def test_a_step_begins_where_the_last_one_ended_and_the_last_is_truncated(learned):
    made = roll(learned, jnp.zeros((5, 3)) - 1.0, 0.1, 4)
    np.testing.assert_array_equal(made.obs[:, 1:], made.next_obs[:, :-1])
    np.testing.assert_array_equal(made.action, np.full((5, 4, 1), np.float32(0.1)))
    assert not made.truncated[:, :-1].any()
    np.testing.assert_array_equal(made.truncated[:, -1], ~made.terminated[:, -1])


def test_models_differ_and_are_standardised_by_the_dataset(learned):
    kernels = jax.tree.leaves(learned.params)
    assert all((np.asarray(x[0]) != np.asarray(x[1])).any() for x in kernels)
    np.testing.assert_allclose(
        learned.targets.std, ensemble.targets_of(recorded().steps).std(0), rtol=1e-5
    )


def test_an_entry_that_never_changes_has_a_deviation_of_one():
    scale = Scale.of(jnp.stack([jnp.arange(4.0), jnp.full(4, 3.0)], -1))
    np.testing.assert_allclose(scale.std, [np.std(np.arange(4)), 1.0], rtol=1e-6)


def test_observations_that_are_no_vectors_are_refused():
    with pytest.raises(ValueError, match="observation_space: observations of shape"):
        ensemble.make(CONFIG, envs.make("Breakout-MinAtar")[0])
