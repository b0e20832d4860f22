import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.parts.normalize import (
    Moments,
    Normalizer,
    RewardScale,
    advance,
    advance_normalizer,
    advance_scale,
    normalize_obs,
    scale_rewards,
    standardize,
)

START = 1e-4  # the weight of mean 0 and variance 1 at the start
T, B = 11, 3
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # noqa: E731


def moments_of(data, axes):
    """Mean and variance of data and the start's weight together, by raw moments in float64."""
    data = np.asarray(data, np.float64)
    count = START + np.prod([data.shape[axis] for axis in axes])
    mean = data.sum(axes) / count
    return mean, (START * 1.0 + (data**2).sum(axes)) / count - mean**2, count


def batches(shape, sizes=(T, 1, 2 * T)):
    rng = np.random.default_rng(0)
    return [rng.normal(3.0, 2.0, size=(n, B, *shape)).astype(np.float32) for n in sizes]


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_moments_of_batches_are_those_of_all_data(shape):
    moments = Moments.start(shape)
    for batch in batches(shape):
        moments = advance(moments, jnp.asarray(batch))
    mean, var, count = moments_of(np.concatenate(batches(shape)), (0, 1))
    chex.assert_shape([moments.mean, moments.var], shape)
    close(moments.mean, mean)
    close(moments.var, var)
    close(moments.count, count)


def test_the_start_has_next_to_no_weight():
    data = np.concatenate(batches((4,)))
    moments = advance(Moments.start((4,)), jnp.asarray(data))
    np.testing.assert_allclose(moments.mean, data.mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(moments.var, data.var((0, 1)), rtol=1e-4)


def test_the_order_of_batches_does_not_matter():
    forwards = backwards = Moments.start((4,))
    for batch in batches((4,)):
        forwards = advance(forwards, jnp.asarray(batch))
    for batch in reversed(batches((4,))):
        backwards = advance(backwards, jnp.asarray(batch))
    chex.assert_trees_all_close(forwards, backwards, rtol=1e-5)


def test_standardized_data_have_mean_0_and_deviation_1():
    data = jnp.asarray(np.concatenate(batches((4,))))
    scaled = np.asarray(standardize(advance(Moments.start((4,)), data), data))
    np.testing.assert_allclose(scaled.mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std((0, 1)), 1, atol=1e-4)


def test_standardized_values_are_clipped_on_either_side():
    x = jnp.array([-100.0, -1.0, 0.0, 1.0, 100.0])
    close(standardize(Moments.start(), x, limit=5.0), [-5, -1, 0, 1, 5])


def scale_loop(rewards, dones, gamma, limit):
    """Scaled rewards of consecutive rollouts; each by all returns up to its end."""
    ret, returns, scaled = np.zeros(B), [], []
    for reward, done in zip(rewards, dones, strict=True):
        for t in range(len(reward)):
            for b in range(B):
                ret[b] = gamma * ret[b] + reward[t, b]
                returns.append(ret[b])
                if done[t, b]:
                    ret[b] = 0.0
        _, var, _ = moments_of(returns, (0,))
        scaled.append(np.clip(reward / np.sqrt(var), -limit, limit))
    return scaled, ret


def rewards_and_dones():
    rng = np.random.default_rng(1)
    rewards = [rng.normal(1.0, 3.0, size=(T, B)).astype(np.float32) for _ in range(3)]
    return rewards, [rng.random((T, B)) < 0.2 for _ in range(3)]


def test_scaled_rewards_equal_a_loop_over_rollouts():
    rewards, dones = rewards_and_dones()
    expected, ret = scale_loop(rewards, dones, 0.9, limit=0.8)
    scale, clipped = RewardScale.start(B), 0
    for i in range(3):
        scale = advance_scale(scale, rewards[i], dones[i], 0.9)
        scaled = scale_rewards(scale, rewards[i], limit=0.8)
        close(scaled, expected[i])
        clipped += np.isclose(np.abs(scaled), 0.8).sum()
    assert 0 < clipped < 3 * T * B
    close(scale.ret, ret)


def test_the_return_forgets_after_a_done_step_not_on_it():
    reward = jnp.array([[1.0], [1.0], [1.0]])
    done = jnp.array([[False], [True], [False]])
    scale = advance_scale(RewardScale.start(1), reward, done, 1.0)
    mean, var, _ = moments_of([1.0, 2.0, 1.0], (0,))
    close(scale.moments.mean, mean)
    close(scale.moments.var, var)
    close(scale.ret, [1.0])


def test_scaling_vmapped_over_members_equals_looped():
    rewards, dones = rewards_and_dones()
    reward, done = np.stack(rewards), np.stack(dones)
    gammas = jnp.array([0.0, 0.9, 1.0])
    vmapped = jax.vmap(advance_scale, in_axes=(None, 0, 0, 0))(
        RewardScale.start(B), reward, done, gammas
    )
    for i in range(3):
        looped = advance_scale(RewardScale.start(B), reward[i], done[i], gammas[i])
        chex.assert_trees_all_close(jax.tree.map(lambda x: x[i], vmapped), looped, rtol=1e-5)  # noqa: B023


def test_moments_vmapped_over_members_equal_looped():
    batch = jnp.asarray(batches((4,))[0])  # [T, members, 4]
    vmapped = jax.vmap(advance, in_axes=(None, 1))(Moments.start((4,)), batch)
    for i in range(B):
        looped = advance(Moments.start((4,)), batch[:, i])
        chex.assert_trees_all_close(jax.tree.map(lambda x: x[i], vmapped), looped, rtol=1e-5)  # noqa: B023


@pytest.mark.parametrize("on_obs", [False, True])
@pytest.mark.parametrize("on_reward", [False, True])
def test_a_part_that_is_none_leaves_its_input_alone(on_obs, on_reward):
    rewards, dones = rewards_and_dones()
    obs = jnp.asarray(batches((4,))[0])
    start = Normalizer.start(on_obs, on_reward, (4,), B)
    after = advance_normalizer(start, obs, jnp.asarray(rewards[0]), dones[0], 0.9)
    reward = scale_rewards(after.reward, rewards[0])
    assert (after.obs is not None, after.reward is not None) == (on_obs, on_reward)
    assert np.array_equal(normalize_obs(after.obs, obs), obs) == (not on_obs)
    assert np.array_equal(reward, rewards[0]) == (not on_reward)


def test_a_normalizer_advances_both_parts_over_a_rollout():
    rewards, dones = rewards_and_dones()
    obs = jnp.asarray(batches((4,))[0])
    start = Normalizer.start(True, True, (4,), B)
    after = advance_normalizer(start, obs, jnp.asarray(rewards[0]), dones[0], 0.9)
    scale = advance_scale(start.reward, rewards[0], dones[0], 0.9)
    chex.assert_trees_all_close(after, Normalizer(advance(start.obs, obs), scale), rtol=1e-6)


def test_observations_are_scaled_by_frozen_statistics():
    moments = Moments(jnp.array([1.0, -2.0]), jnp.array([4.0, 0.25]), jnp.float32(10))
    close(normalize_obs(moments, jnp.array([[3.0, -1.0]])), [[1.0, 2.0]])
