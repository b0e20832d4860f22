"""Experience in an environment so small that every step can be checked by hand."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

from purejaxrl.parts.rollout import Interaction, collect, reset

OBS_DIM = 5
T = 7


@struct.dataclass
class CounterState:
    count: jax.Array
    time: jax.Array


@struct.dataclass
class CounterParams:
    end: int = 4
    max_steps_in_episode: int = 3


class Counter(environment.Environment):
    """Counts up by the action from 0; terminates at `end`. The count is observed OBS_DIM times."""

    def step_env(self, key, state, action, params):
        state = CounterState(state.count + action, state.time + 1)
        reward = 1.0 * state.count + 0.5
        return self.view(state), state, reward, state.count >= params.end, {}

    def reset_env(self, key, params):
        state = CounterState(jnp.int32(0), jnp.int32(0))
        return self.view(state), state

    def action_space(self, params):
        return spaces.Discrete(3)

    def view(self, state):
        return jnp.full(OBS_DIM, state.count, jnp.float32)


env = Counter()
BY_ONE_AND_TWO = jnp.array([1, 2])


@partial(jax.jit, static_argnames="num_steps")
def go(params: Any, actions, num_steps=T, key=0):
    """Environment i always plays actions[i]; memory counts steps and is added to final values."""

    def act(memory, obs, first, key):
        memory = memory + 1
        return actions, memory, {"draw": jax.random.bits(key), "before": memory - 1, "saw": first}

    def final_value(memory, obs):
        return 10 * obs[:, 0] + 100 * memory

    key, reset_key = jax.random.split(jax.random.key(key))
    memory = jnp.zeros(len(actions))
    start = Interaction.start(reset_key, env, params, len(actions), memory)
    after, (transitions, episodes, _) = collect(
        key, env, params, start, act, num_steps, 0.5, final_value=final_value
    )  # fmt: skip
    return after, episodes, transitions


@pytest.fixture(scope="module")
def played():
    """Counting by one, the limit of 3 steps comes first; by two, the count of 4."""
    return go(CounterParams(), BY_ONE_AND_TWO)


YES, NO = True, False


def test_observations_are_those_acted_on(played):
    np.testing.assert_array_equal(
        played[-1].obs[..., 0], np.transpose([[0, 1, 2, 0, 1, 2, 0], [0, 2, 0, 2, 0, 2, 0]])
    )


def test_the_first_observation_of_each_episode_is_marked(played):
    expected = np.transpose([[YES, NO, NO, YES, NO, NO, YES], [YES, NO, YES, NO, YES, NO, YES]])
    np.testing.assert_array_equal(played[-1].first, expected)
    np.testing.assert_array_equal(played[-1].extras["saw"], expected)


def test_the_limit_truncates(played):
    np.testing.assert_array_equal(
        played[-1].truncated, np.transpose([[NO, NO, YES, NO, NO, YES, NO], [NO] * 7])
    )


def test_the_end_terminates(played):
    np.testing.assert_array_equal(
        played[-1].terminated, np.transpose([[NO] * 7, [NO, YES, NO, YES, NO, YES, NO]])
    )


def test_final_values_are_of_the_observation_before_the_reset_and_the_memory_after_acting(played):
    final = np.transpose([[1, 2, 3, 1, 2, 3, 1], [2, 4, 2, 4, 2, 4, 2]])
    memory = np.arange(1, 8)[:, None]
    np.testing.assert_array_equal(played[-1].final_value, 10 * final + 100 * memory)


def test_rewards_are_of_the_step_before_the_reset(played):
    np.testing.assert_array_equal(
        played[-1].reward,
        np.transpose([[1.5, 2.5, 3.5, 1.5, 2.5, 3.5, 1.5], [2.5, 4.5, 2.5, 4.5, 2.5, 4.5, 2.5]]),
    )


def test_actions_and_extras_are_recorded(played):
    np.testing.assert_array_equal(played[-1].action, [[1, 2]] * T)
    np.testing.assert_array_equal(played[-1].extras["before"], np.stack([np.arange(7)] * 2, axis=1))


def test_the_next_observation_is_the_one_before_the_reset(played):
    np.testing.assert_array_equal(
        played[-1].final_obs[..., 0], np.transpose([[1, 2, 3, 1, 2, 3, 1], [2, 4, 2, 4, 2, 4, 2]])
    )


def test_episodes_are_accounted_for(played):
    after, episodes, _ = played
    assert episodes["episodes"] == 5
    assert episodes["length"] == (2 * 3 + 3 * 2) / 5
    np.testing.assert_array_equal(after.episode.length, [1, 1])


def test_it_returns_the_current_states_of_the_environments(played):
    env_state, obs, first, memory, _ = played[0]
    np.testing.assert_array_equal(env_state.count, [1, 2])
    np.testing.assert_array_equal(env_state.time, [1, 1])
    np.testing.assert_array_equal(obs[:, 0], [1, 2])
    np.testing.assert_array_equal(first, [NO, NO])
    np.testing.assert_array_equal(memory, [7, 7])


def test_a_rollout_that_stops_at_an_episodes_end_says_that_the_next_observation_is_a_first():
    after, _, transitions = go(CounterParams(), BY_ONE_AND_TWO, num_steps=3)
    env_state, obs, first, *_ = after
    np.testing.assert_array_equal(first, [YES, NO])
    np.testing.assert_array_equal(obs[:, 0], [0, 2])
    np.testing.assert_array_equal(env_state.time, [0, 1])
    np.testing.assert_array_equal(transitions.truncated[-1], [YES, NO])


def test_a_step_that_reaches_both_end_and_limit_is_terminated_only():
    *_, transitions = go(CounterParams(end=6), BY_ONE_AND_TWO, num_steps=3)
    np.testing.assert_array_equal(transitions.terminated[-1], [NO, YES])
    np.testing.assert_array_equal(transitions.truncated[-1], [YES, NO])


def test_every_step_acts_with_a_key_of_its_own(played):
    draws = played[-1].extras["draw"].tolist()
    assert len(set(draws)) == T
    assert go(CounterParams(), BY_ONE_AND_TWO)[-1].extras["draw"].tolist() == draws
    assert not set(go(CounterParams(), BY_ONE_AND_TWO, key=1)[-1].extras["draw"].tolist()) & set(
        draws
    )


def test_final_observations_that_nothing_reads_take_no_memory():
    def bytes_of(read):
        program = jax.jit(lambda: read(go(CounterParams(), BY_ONE_AND_TWO, num_steps=10_000)[-1]))
        memory = program.lower().compile().memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    without = bytes_of(lambda seen: seen.reward)
    assert (
        bytes_of(lambda seen: (seen.reward, seen.final_obs)) - without >= 10_000 * 2 * OBS_DIM * 4
    )


def test_resets_are_batched_and_differ_by_key():
    class Random(Counter):
        def reset_env(self, key, params):
            state = CounterState(jax.random.randint(key, (), 0, 10**6), jnp.int32(0))
            return self.view(state), state

    obs, state = reset(jax.random.key(0), Random(), CounterParams(), 5)
    assert obs.shape == (5, OBS_DIM)
    assert len(set(state.count.tolist())) == 5


def test_environments_step_with_keys_of_their_own():
    class Noisy(Counter):
        def step_env(self, key, state, action, params):
            obs, state, _, terminated, info = super().step_env(key, state, action, params)
            return obs, state, jax.random.uniform(key), terminated, info

    start = Interaction.start(jax.random.key(0), Noisy(), CounterParams(), 3)
    _, (transitions, *_) = collect(
        jax.random.key(1), Noisy(), CounterParams(), start,
        lambda memory, obs, first, key: (jnp.ones(3, jnp.int32), memory, ()), T, 0.9,
    )  # fmt: skip
    assert len(set(transitions.reward.ravel().tolist())) == 3 * T
