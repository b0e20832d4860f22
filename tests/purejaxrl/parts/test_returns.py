import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purejaxrl.parts.returns import Episode, episode_metrics, generalized_advantage, next_values

T, B = 11, 3  # T is no multiple of the scan's unroll
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # noqa: E731
gae = jax.jit(generalized_advantage)
metrics_of = jax.jit(episode_metrics)


def experience(seed, p_terminated=0.2, p_truncated=0.2, steps=T):
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, steps, B)).astype(np.float32)
    terminated = rng.random((steps, B)) < p_terminated
    truncated = ~terminated & (rng.random((steps, B)) < p_truncated)
    return reward, value, next_value, terminated, truncated


def gae_loop(reward, value, next_value, terminated, truncated, gamma, gae_lambda):
    advantage = np.zeros(reward.shape)
    for b in range(reward.shape[1]):
        for start in range(reward.shape[0]):
            weight = 1.0
            for t in range(start, reward.shape[0]):  # the sum of (gamma lambda)^k delta, forwards
                target = reward[t, b] + (0.0 if terminated[t, b] else gamma * next_value[t, b])
                advantage[start, b] += weight * (target - value[t, b])
                if terminated[t, b] or truncated[t, b]:
                    break
                weight *= gamma * gae_lambda
    return advantage


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    gamma=st.floats(0, 1, width=32),
    gae_lambda=st.floats(0, 1, width=32),
    p_terminated=st.sampled_from([0.0, 0.2, 1.0]),
    p_truncated=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_advantage_equals_a_plain_loop(seed, gamma, gae_lambda, p_terminated, p_truncated):
    data = experience(seed, p_terminated, p_truncated)
    close(gae(*data, gamma, gae_lambda), gae_loop(*data, gamma, gae_lambda))


def test_lambda_one_is_the_monte_carlo_return_minus_the_value():
    reward, value, next_value, terminated, truncated = experience(1)
    gamma = 0.9
    returns = np.zeros((T, B))
    following = next_value[-1].astype(np.float64)  # the rollout's own end bootstraps too
    for t in reversed(range(T)):
        following = np.where(truncated[t], next_value[t], following)
        following = np.where(terminated[t], 0.0, following)
        returns[t] = following = reward[t] + gamma * following
    # between steps of one episode, values telescope only if they belong to the same observation
    next_value = np.where(
        terminated | truncated, next_value, np.concatenate([value[1:], next_value[-1:]])
    )
    advantage = gae(reward, value, next_value, terminated, truncated, gamma, 1.0)
    close(advantage, returns - value)


def test_lambda_zero_is_the_one_step_error():
    reward, value, next_value, terminated, _ = data = experience(2)
    target = reward + 0.9 * np.where(terminated, 0, next_value)
    close(gae(*data, 0.9, 0.0), target - value)


def end_at(step, steps=4):
    return jnp.arange(steps)[:, None] == step


never = end_at(-1)
ones = jnp.ones((4, 1))


def test_a_terminated_step_does_not_bootstrap():
    advantage = gae(ones, 0 * ones, 100 * ones, end_at(1), never, 0.5, 0.0)
    close(advantage[:, 0], [51, 1, 51, 51])


def test_a_truncated_step_bootstraps_from_its_next_value():
    next_value = 100 * ones.at[1].set(2)
    advantage = gae(ones, 0 * ones, next_value, never, end_at(1), 0.5, 0.0)
    close(advantage[:, 0], [51, 101, 51, 51])


@pytest.mark.parametrize("cut", ["terminated", "truncated"])
def test_either_end_cuts_the_trace(cut):
    ends = {"terminated": never, "truncated": never, cut: end_at(1)}
    before = gae(ones, 0 * ones, 0 * ones, **ends, gamma=1.0, gae_lambda=1.0)
    after = gae(ones.at[2:].set(7), 0 * ones, 0 * ones, **ends, gamma=1.0, gae_lambda=1.0)
    close(before[:, 0], [2, 1, 2, 1])
    close(after[:, 0], [2, 1, 14, 7])


def test_the_next_value_of_a_terminated_step_is_never_read():
    next_value = ones.at[1].set(jnp.nan)
    assert np.isfinite(gae(ones, ones, next_value, end_at(1), never, 0.9, 0.9)).all()


def test_a_step_that_is_both_counts_as_terminated():
    both = gae(ones, ones, 5 * ones, end_at(1), end_at(1), 0.9, 0.9)
    close(both, gae(ones, ones, 5 * ones, end_at(1), never, 0.9, 0.9))


def test_vmapped_over_hyperparameters_equals_looped():
    data = experience(3)
    gammas, lambdas = jnp.array([0.0, 0.9, 1.0]), jnp.array([1.0, 0.5, 0.95])
    vmapped = jax.vmap(generalized_advantage, in_axes=(*[None] * 5, 0, 0))(*data, gammas, lambdas)
    for i in range(3):
        close(vmapped[i], gae(*data, gammas[i], lambdas[i]))


def test_mismatched_shapes_are_refused():
    with pytest.raises(AssertionError):
        generalized_advantage(ones, ones, ones[:, 0], never, never, 0.9, 0.9)


def test_next_values_are_the_following_ones_or_the_final_ones_where_truncated():
    value = jnp.array([[1.0, 10], [2, 20], [3, 30]])
    truncated = jnp.array([[False, True], [True, False], [False, False]])
    following = next_values(value, jnp.array([4.0, 40]), -value, truncated)
    close(following, [[2, -10], [-2, 30], [4, 40]])


def test_next_values_at_the_last_step_are_the_final_ones_where_truncated():
    value = jnp.ones((2, 1))
    following = next_values(value, jnp.array([5.0]), 9 * value, jnp.array([[False], [True]]))
    close(following[:, 0], [1, 9])


def metrics_loop(reward, done, gamma):
    finished = []
    for b in range(reward.shape[1]):
        rewards = []
        for t in range(reward.shape[0]):
            rewards.append(float(reward[t, b]))
            if done[t, b]:
                discounted = sum(gamma**i * r for i, r in enumerate(rewards))
                finished.append((t, sum(rewards), discounted, len(rewards)))
                rewards = []
    return finished


@pytest.mark.parametrize("seed", range(4))
def test_episode_metrics_equal_a_loop_over_two_rollouts(seed):
    rng = np.random.default_rng(seed)
    reward = rng.normal(size=(2 * T, B)).astype(np.float32)
    done = rng.random((2 * T, B)) < 0.3
    finished = metrics_loop(reward, done, 0.9)
    episode = Episode.start(B)
    for i in range(2):
        part = slice(i * T, (i + 1) * T)
        episode, found = metrics_of(episode, reward[part], done[part], 0.9)
        expected = [f[1:] for f in finished if i * T <= f[0] < (i + 1) * T]
        assert found["episodes"] == len(expected) > 0
        mean = np.mean(expected, axis=0)
        close([found["return"], found["discounted_return"], found["length"]], mean)


def test_an_episode_that_spans_rollouts_is_counted_once_and_whole():
    reward, no, yes = jnp.ones((3, 1)), never[:3], end_at(1)[:3]
    episode, metrics = metrics_of(Episode.start(1), reward, no, 0.5)
    assert metrics["episodes"] == 0
    episode, metrics = metrics_of(episode, reward, yes, 0.5)
    assert metrics["episodes"] == 1
    assert metrics["return"] == metrics["length"] == 5
    close(metrics["discounted_return"], 1 + 1 / 2 + 1 / 4 + 1 / 8 + 1 / 16)
    chex.assert_trees_all_close(
        episode, Episode(jnp.ones(1), jnp.ones(1), jnp.full(1, 0.5), jnp.ones(1, jnp.int32))
    )


def test_means_are_nan_when_no_episode_finished():
    _, metrics = metrics_of(Episode.start(1), jnp.ones((3, 1)), never[:3], 0.9)
    assert metrics["episodes"] == 0
    for name in ("return", "discounted_return", "length"):
        assert jnp.isnan(metrics[name]), name


def test_metrics_are_scalars():
    _, metrics = metrics_of(Episode.start(2), jnp.ones((3, 2)), jnp.ones((3, 2), bool), 0.9)
    chex.assert_shape(list(metrics.values()), ())
