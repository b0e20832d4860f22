"""Play a policy and compare its mean return with the expected one; compare trees of arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
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


def close(a: Any, b: Any) -> jax.Array:
    """Whether two trees are equal up to rounding."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jnp.all(jnp.array([jnp.allclose(x, y, rtol=1e-4, atol=1e-5) for x, y in leaves]))


def is_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))


def strong(tree: Any) -> Any:
    """Arrays whose types are not weak: that would compile everything twice."""
    return jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.result_type(x)), tree)


def digest(obs: Any) -> jax.Array:
    """A number that differs where observations do."""
    flat = jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in jax.tree.leaves(obs)])
    return flat @ jnp.cos(1.0 + jnp.arange(flat.size))


def assert_shaped_like(space: spaces.Space, x: Any) -> None:
    if isinstance(space, spaces.Dict):
        assert set(x._fields) == set(space.spaces)
        for name, inner in space.spaces.items():
            assert_shaped_like(inner, getattr(x, name))
    else:
        assert (x.shape, x.dtype) == (space.shape, space.dtype)
