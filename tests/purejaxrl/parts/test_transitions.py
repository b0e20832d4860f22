"""Transitions of the buffer against a plain Python model; the warm-up; what does not fit."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purejaxrl.parts.normalize import Moments
from purejaxrl.parts.replay import Replay
from purejaxrl.parts.rollout import Interaction
from purejaxrl.parts.transitions import (
    Step,
    check_replay,
    draw_batch,
    draw_normalized,
    sum_rewards,
    warm_up,
)
from purejaxrl.validation import require_count
from tests.algos.chain import Chain
from tests.helpers import mostly_slow

GAMMA = 0.5


def random_rollouts(rng, num_rollouts, num_steps, num_envs):
    """Steps `[num_rollouts, num_steps, num_envs]`; an observation is the number of its step."""
    shape = num_rollouts, num_steps, num_envs
    number = np.arange(np.prod(shape)).reshape(shape)
    kind = rng.choice(3, shape, p=[0.6, 0.2, 0.2])
    return Step(
        obs=number.astype(np.float32),
        action=number.astype(np.int32),
        reward=rng.integers(1, 9, shape).astype(np.float32),
        terminated=kind == 1,
        truncated=kind == 2,
        next_obs=number.astype(np.float32) + 0.5,
    )


def n_step(history, t, env, n):
    """The transition that begins at step t of an environment, from lists of its steps."""
    reward, discount = 0.0, 1.0
    for step in history[env][t : t + n]:
        reward, discount = reward + discount * step.reward, discount * GAMMA
        if step.terminated:
            discount = 0.0
        if step.terminated or step.truncated:
            break
    return history[env][t].obs, reward, discount, step.next_obs


SIZES = {  # (num_envs, num_steps, rollouts in the buffer, n)
    "one environment": (1, 1, 4, 3),
    "a rollout is the buffer": (3, 2, 1, 2),
    "one step": (2, 3, 3, 1),
    "n is longer than the buffer": (2, 1, 3, 5),
}


@partial(jax.jit, static_argnums=(1, 2, 3))
def write_and_read(rollouts, in_buffer, num_envs, n):
    """Write rollouts `[num_rollouts, rows, ...]`, and read the transitions from all places."""
    rows = rollouts.reward.shape[1]
    empty = Replay.start(jax.tree.map(lambda x: x[0], rollouts), in_buffer * rows)
    replay, _ = jax.lax.scan(lambda replay, new: (replay.write(new), None), empty, rollouts)
    return sum_rewards(replay, jnp.arange(in_buffer * rows), GAMMA, num_envs, n)


@pytest.mark.parametrize("name", mostly_slow(SIZES, {"one environment", "one step"}))
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), extra=st.sampled_from([0, 1, 5]))
def test_transitions_equal_those_of_a_list(name, seed, extra):
    """Wrap-around, both ends of episodes, and the newest step, for two members side by side."""
    num_envs, num_steps, kept, n = SIZES[name]
    rng = np.random.default_rng(seed)
    members = [random_rollouts(rng, kept + extra, num_steps, num_envs) for _ in range(2)]
    together = jax.tree.map(lambda *x: np.stack(x).reshape(2, kept + extra, -1), *members)
    read = jax.vmap(partial(write_and_read, in_buffer=kept, num_envs=num_envs, n=n))
    found = jax.device_get(read(together))

    for member, steps in enumerate(members):
        latest = jax.tree.map(lambda x: x[-kept:].reshape(kept * num_steps, num_envs), steps)
        history = [
            [Step(*(x[t, env] for x in latest)) for t in range(kept * num_steps)]
            for env in range(num_envs)
        ]
        expected = sorted(
            n_step(history, t, env, n) for env in range(num_envs) for t in range(kept * num_steps)
        )
        of_member = (x[member] for x in (found.obs, found.reward, found.discount, found.next_obs))
        np.testing.assert_allclose(sorted(zip(*of_member, strict=True)), expected)


def test_draws_are_uniform_over_what_was_written():
    steps = jax.tree.map(
        lambda x: jnp.asarray(x).reshape(-1),
        random_rollouts(np.random.default_rng(0), 1, 8, 1),
    )
    replay = Replay.start(steps, 32).write(steps)
    batch = draw_batch(jax.random.key(0), replay, 8000, GAMMA, num_envs=1)
    counts = np.bincount(np.asarray(batch.action), minlength=8)
    assert len(counts) == 8
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 24.3  # 0.999 quantile, 7 degrees of freedom


@pytest.mark.parametrize("normalize_obs", [True, False])
def test_a_normalized_draw_standardises_both_observations_and_scales_returns_of_n_steps(
    normalize_obs,
):
    rollouts = jax.tree.map(lambda x: x[0], random_rollouts(np.random.default_rng(0), 1, 8, 2))
    history = [[Step(*(x[t, env] for x in rollouts)) for t in range(8)] for env in range(2)]
    steps = jax.tree.map(lambda x: jnp.asarray(x.reshape(-1)), rollouts)
    replay = Replay.start(steps, 16).write(steps)
    moments = Moments(mean=jnp.float32(3), var=jnp.float32(4), count=jnp.float32(9))
    config = SimpleNamespace(batch_size=64, num_envs=2, num_returns=2)
    hypers = SimpleNamespace(gamma=GAMMA, reward_scale=0.1)
    batch = draw_normalized(
        jax.random.key(0), replay, moments if normalize_obs else None, config, hypers
    )
    t, env = np.divmod(batch.action, 2)  # an action is the number of its step
    transitions = [n_step(history, *place, 2) for place in zip(t, env, strict=True)]
    obs, reward, discount, next_obs = np.transpose(transitions)
    standard = lambda x: (x - 3) / 2 if normalize_obs else x  # noqa: E731
    np.testing.assert_allclose(batch.obs, standard(obs), rtol=1e-5)
    np.testing.assert_allclose(batch.next_obs, standard(next_obs), rtol=1e-5)
    np.testing.assert_allclose(batch.reward, 0.1 * reward, rtol=1e-5)
    np.testing.assert_allclose(batch.discount, discount, rtol=1e-5)
    assert set(discount.tolist()) == {0.0, 0.25, 0.5}


@dataclasses.dataclass(frozen=True)
class Config:
    num_envs: int = 2
    num_steps: int = 3
    capacity: int = 24
    warmup_steps: int = 12
    batch_size: int = 8
    num_batches: int = 1

    def __post_init__(self):
        require_count(self, "num_envs")
        check_replay(self)


def test_the_warm_up_keeps_whole_steps_of_random_actions():
    env, config = Chain(), Config(capacity=240, warmup_steps=240)
    start = Interaction.start(jax.random.key(0), env, env.default_params, 2)
    interaction, replay = warm_up(jax.random.key(1), env, env.default_params, start, config, GAMMA)
    steps = replay.contents
    assert replay.written == 240 and interaction.env_state.count.tolist() == [120, 120]
    assert 80 < steps.action.sum() < 160
    np.testing.assert_array_equal(steps.reward[::2], np.tile([1, 2, 3, 4], 30))
    np.testing.assert_array_equal(steps.obs[1::2], np.tile([0, 1], 60))
    np.testing.assert_array_equal(steps.next_obs[1::2], np.tile([1, 2], 60))
    np.testing.assert_array_equal(steps.terminated[::2], np.tile([0, 1, 0, 0], 30))
    np.testing.assert_array_equal(steps.truncated[::2], np.tile([0, 0, 0, 1], 30))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity": 25}, r"Config\.capacity: 25 .*a multiple of num_envs \* num_steps = 6"),
        ({"warmup_steps": 13}, r"Config\.warmup_steps: 13 .*a multiple of"),
        ({"warmup_steps": 30}, r"Config\.warmup_steps: 30 .*at most the capacity, 24"),
        ({"batch_size": 13}, r"Config\.batch_size: 13 .*at most warmup_steps, 12"),
        ({"num_batches": 0}, r"Config\.num_batches: 0 .*an integer >= 1"),
        ({"capacity": 0}, r"Config\.capacity: 0 .*an integer >= 1"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)
