"""Play a policy, and compare what it earns on average with what it should."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats


def episodes(env, params, policy, num_steps, num_episodes, seed=0):
    """Rewards of first episodes, `[num_episodes, num_steps]`: zero once they have ended.

    `policy(state)` sees the state and is an oracle; `num_steps` is at least an episode's length.
    """

    def episode(key):
        reset_key, step_key = jax.random.split(key)
        _, state = env.reset_env(reset_key, params)

        def step(carry, key):
            state, alive = carry
            _, state, reward, terminated, _ = env.step_env(key, state, policy(state), params)
            over = terminated | env.is_truncated(state, params)
            return (state, alive & ~over), reward * alive

        keys = jax.random.split(step_key, num_steps)
        return jax.lax.scan(step, (state, jnp.bool_(True)), keys)[1]

    keys = jax.random.split(jax.random.key(seed), num_episodes)
    return jax.jit(jax.vmap(episode))(keys)


def assert_mean(samples, expected):
    """Assert that `expected` lies in the confidence interval of the mean: all but 1 in 1e6."""
    samples = np.asarray(samples, np.float64)
    half = stats.t.ppf(1 - 5e-7, len(samples) - 1) * stats.sem(samples)
    np.testing.assert_allclose(samples.mean(), expected, rtol=1e-5, atol=half + 1e-5)
