import copy

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces

import envs
from purejaxrl.parts.wrappers import (
    ClipAction,
    FlattenObservation,
    OneHotObservation,
    Restarting,
    ScaleAction,
    TimeLimit,
    Wrapper,
)


def start(env, params, seed=0):
    return env.reset(jax.random.key(seed), params)


def play(env, params, action, num_steps, seed=0):
    """Step with one action: what every step returned."""
    _, state = start(env, params, seed)
    steps = []
    for i in range(num_steps):
        steps.append(env.step(jax.random.key(100 + i), state, action, params))
        state = steps[-1][1]
    return steps


def flags(steps):
    return [(bool(terminated), bool(truncated)) for _, _, _, terminated, truncated, _ in steps]


class Echo(Wrapper):
    """Puts the action that reached the environment into `info`."""

    def step_env(self, key, state, action, params):
        *rest, info = self._env.step_env(key, state, action, params)
        return *rest, info | {"action": action}


class CountResets(Wrapper):
    """Counts how often a reset is traced."""

    def __init__(self, env):
        super().__init__(env)
        self.resets = 0

    def reset_env(self, key, params):
        self.resets += 1
        return self._env.reset_env(key, params)


def test_a_wrapper_delegates_what_it_does_not_change():
    env, params = gymnax.make("CartPole-v1")
    wrapped = Wrapper(Wrapper(env))
    assert wrapped.name == "CartPole-v1"
    assert wrapped.num_actions == 2
    assert wrapped.default_params == params
    assert wrapped.obs_shape == (4,)  # an attribute of CartPole's own
    assert wrapped.action_space(params).n == 2
    assert wrapped.observation_space(params).shape == (4,)
    both = [play(e, params, 1, 2) for e in (env, wrapped)]
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_unknown_attribute_is_an_attribute_error_even_of_a_copy():
    wrapped = copy.copy(Wrapper(gymnax.make("CartPole-v1")[0]))
    assert wrapped.name == "CartPole-v1"
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = wrapped.no_such_thing


@pytest.mark.parametrize(
    ("name", "size"), [("CartPole-v1", 4), ("Catch-bsuite", 50), ("Breakout-MinAtar", 400)]
)
def test_flattened_observations_are_the_ravelled_ones_and_lie_in_their_space(name, size):
    env, params = gymnax.make(name)
    flat = FlattenObservation(env)
    space = flat.observation_space(params)
    assert space.shape == (size,)

    @jax.jit
    def observations(key):
        """Of the reset, of a step, and the final one; flattened or not."""
        seen = []
        for e in (flat, env):
            obs, state = e.reset(key, params)
            after, *_, info = e.step(key, state, 0, params)
            seen.append([obs, after, info["final_observation"]])
        return seen

    for ours, inner in zip(*observations(jax.random.key(0)), strict=True):
        np.testing.assert_array_equal(ours, inner.ravel())
        assert ours.shape == space.shape
        assert space.contains(ours)


def test_a_flattened_space_has_the_widest_of_differing_bounds():
    env, params = gymnax.make("Pendulum-v1")
    space = FlattenObservation(env).observation_space(params)
    assert (space.low, space.high) == (-8, 8)


def test_the_final_observation_is_the_wrapped_view_of_the_episodes_end():
    env, params = gymnax.make("Catch-bsuite")
    flat = FlattenObservation(env)
    *_, before, last = play(flat, params, 1, 9)  # the ball takes nine steps to the paddle
    assert flags([before, last]) == [(False, False), (True, False)]
    _, reset_key = jax.random.split(jax.random.key(108))
    final, obs = last[-1]["final_observation"], last[0]
    assert final.shape == (50,)
    assert final[:45].sum() == 0  # the ball lies in the paddle's row
    np.testing.assert_array_equal(obs, flat.reset(reset_key, params)[0])
    assert obs[:5].sum() == 1  # the new one is at the top


def reaching(env, params, actions):
    """What reaches the environment inside `Echo` for each of these actions."""
    _, state = start(env, params)
    step = jax.jit(jax.vmap(env.step_env, in_axes=(None, None, 0, None)))
    *_, info = step(jax.random.key(0), state, jnp.asarray(actions, jnp.float32), params)
    return info["action"]


def test_actions_are_clipped_to_the_bounds_inside():
    env, params = gymnax.make("Pendulum-v1")
    clipped = ClipAction(Echo(env))
    actions = reaching(clipped, params, [[-9], [-2], [0.5], [3]])
    np.testing.assert_array_equal(actions, [[-2], [-2], [0.5], [2]])
    space = clipped.action_space(params)
    assert (space.low, space.high, space.shape) == (-2, 2, (1,))


def test_actions_are_scaled_from_the_unit_box_to_the_bounds_inside():
    env, params = gymnax.make("Pendulum-v1")
    scaled = ScaleAction(Echo(env))
    actions = reaching(scaled, params, [[-5], [-1], [-0.5], [0], [0.25], [1], [7]])
    np.testing.assert_array_equal(actions, [[-2], [-2], [-1], [0], [0.5], [2], [2]])
    space = scaled.action_space(params)
    assert (space.low, space.high, space.shape) == (-1, 1, (1,))


@pytest.mark.parametrize("wrapper", [ClipAction, ScaleAction])
def test_bounds_are_those_of_each_level(wrapper):
    env, params = gymnax.make("Pendulum-v1")
    torques = jnp.array([0.5, 1.5])
    actions = jax.vmap(
        lambda torque: reaching(wrapper(Echo(env)), params.replace(max_torque=torque), [[9], [-9]])
    )(torques)
    np.testing.assert_array_equal(actions[..., 0], [[0.5, -0.5], [1.5, -1.5]])


def test_an_asymmetric_box_is_scaled_end_to_end():
    class Asymmetric(Echo):
        def action_space(self, params):
            return spaces.Box(jnp.array([0.0, -1.0]), jnp.array([4.0, 0.0]), (2,))

        def step_env(self, key, state, action, params):
            *rest, info = self._env.step_env(key, state, action[:1], params)
            return *rest, info | {"action": action}

    env, params = gymnax.make("Pendulum-v1")
    actions = reaching(ScaleAction(Asymmetric(env)), params, [[-1, 1], [1, -1], [0, 0]])
    np.testing.assert_array_equal(actions, [[0, 0], [4, -1], [2, -0.5]])


def test_a_time_limit_truncates_and_does_not_terminate():
    env, params = gymnax.make("CartPole-v1")
    steps = play(TimeLimit(env, 3), params, 0, 7)
    running, cut = (False, False), (False, True)
    assert flags(steps) == [running, running, cut, running, running, cut, running]
    assert [int(step[1].time) for step in steps] == [1, 2, 0, 1, 2, 0, 1]


def test_an_episode_that_ends_by_itself_is_terminated_and_not_truncated():
    env, params = gymnax.make("CartPole-v1")
    bare, limited = play(env, params, 0, 15), play(TimeLimit(env, 100), params, 0, 15)
    assert flags(limited) == flags(bare)
    assert (True, False) in flags(limited)
    assert (False, True) not in flags(limited)
    ends = flags(limited).index((True, False))
    assert limited[ends][1].time == 0  # the count starts again


def test_the_limit_inside_still_holds():
    env, params = gymnax.make("Pendulum-v1")
    params = params.replace(max_steps_in_episode=2)
    steps = play(TimeLimit(env, 5), params, jnp.zeros(1), 4)
    assert [truncated for _, truncated in flags(steps)] == [False, True, False, True]


def test_the_tighter_of_two_time_limits_holds():
    env, params = gymnax.make("Pendulum-v1")
    for limited in (TimeLimit(TimeLimit(env, 2), 3), TimeLimit(TimeLimit(env, 3), 2)):
        steps = play(limited, params, jnp.zeros(1), 4)
        assert [truncated for _, truncated in flags(steps)] == [False, True, False, True]


@pytest.mark.parametrize("max_steps", [0, -1])
def test_a_time_limit_is_positive(max_steps):
    with pytest.raises(ValueError, match=f"max_steps: {max_steps} is not valid"):
        TimeLimit(gymnax.make("CartPole-v1")[0], max_steps)


def test_auto_reset_happens_once_however_many_wrappers():
    inside, params = gymnax.make("Catch-bsuite")
    counter = CountResets(inside)
    env = TimeLimit(FlattenObservation(Wrapper(counter)), 2)
    key = jax.random.key(0)
    _, state = jax.eval_shape(env.reset_env, key, params)
    counter.resets = 0
    jax.eval_shape(env.step, key, state, jnp.int32(0), params)
    assert counter.resets == 1


def test_after_an_episode_every_wrapper_starts_anew_from_the_same_reset():
    inside, params = gymnax.make("Catch-bsuite")
    env = TimeLimit(FlattenObservation(inside), 2)
    obs, state, _, _, truncated, info = play(env, params, 1, 2)[-1]
    assert truncated
    _, reset_key = jax.random.split(jax.random.key(101))
    fresh_obs, fresh_state = inside.reset(reset_key, params)
    np.testing.assert_array_equal(obs, fresh_obs.ravel())
    for a, b in zip(jax.tree.leaves(state.inner), jax.tree.leaves(fresh_state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert state.time == state.inner.time == 0
    assert not np.array_equal(info["final_observation"], obs)


def test_wrappers_compose_in_any_order():
    inside, params = gymnax.make("Pendulum-v1")
    action = jnp.array([5.0])
    first = ScaleAction(TimeLimit(FlattenObservation(inside), 2))
    second = TimeLimit(FlattenObservation(ScaleAction(inside)), 2)
    for a, b in zip(play(first, params, action, 3), play(second, params, action, 3), strict=True):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_vmapped_and_jitted_equals_one_by_one(name):
    inside, params = gymnax.make(name)
    env = TimeLimit(FlattenObservation(inside), 2)
    keys = jax.random.split(jax.random.key(0), 3)
    action = env.action_space(params).sample(jax.random.key(7))

    def two_steps(key):
        _, state = env.reset(key, params)
        return [
            state := env.step(key, state, action, params)[1],
            env.step(key, state, action, params),
        ]

    together = jax.jit(jax.vmap(two_steps))(keys)
    assert together[1][4].all()  # truncated
    for i in range(3):
        alone = two_steps(keys[i])
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


def test_the_state_keeps_its_types_over_a_scan():
    inside, params = gymnax.make("CartPole-v1")
    env = TimeLimit(FlattenObservation(inside), 3)

    def step(state, key):
        _, state, _, _, truncated, _ = env.step(key, state, 0, params)
        return state, truncated

    _, state = start(env, params)
    state, truncated = jax.lax.scan(step, state, jax.random.split(jax.random.key(0), 7))
    assert truncated.tolist() == [False, False, True, False, False, True, False]
    assert state.time == 1


class Counting(environment.Environment):
    """Shows the time."""

    @property
    def default_params(self):
        return environment.EnvParams(max_steps_in_episode=3)

    def reset_env(self, key, params):
        state = environment.EnvState(time=jnp.int32(0))
        return state.time, state

    def step_env(self, key, state, action, params):
        state = state.replace(time=state.time + 1)
        return state.time, state, 0.0, jnp.bool_(False), {}

    def observation_space(self, params):
        return spaces.Discrete(4)


class CountingOn(Counting, Restarting):
    """Restarts later than it resets."""

    def restart(self, state, params):
        return jnp.int32(2), state.replace(time=jnp.int32(2))


@pytest.mark.parametrize(
    ("kind", "seen", "final"),
    [(Counting, [1, 2, 0, 1, 2], [1, 2, 3, 1, 2]), (CountingOn, [1, 2, 2, 2, 2], [1, 2, 3, 3, 3])],
)
def test_an_index_becomes_a_one_hot_vector(kind, seen, final):
    env = OneHotObservation(kind())
    params = env.default_params
    space = env.observation_space(params)
    assert (space.low, space.high, space.shape, space.dtype) == (0, 1, (4,), jnp.float32)
    first, _ = start(env, params)
    assert first.dtype == space.dtype
    np.testing.assert_array_equal(first, np.eye(4)[0])
    steps = play(env, params, 0, 5)
    np.testing.assert_array_equal([step[0] for step in steps], np.eye(4)[seen])
    finals = [step[-1]["final_observation"] for step in steps]
    np.testing.assert_array_equal(finals, np.eye(4)[final])


def test_only_an_index_can_become_one_hot():
    with pytest.raises(ValueError, match=r"env: observations in Box.* must be Discrete"):
        OneHotObservation(gymnax.make("CartPole-v1")[0])


def test_only_a_box_can_be_flattened():
    with pytest.raises(ValueError, match=r"env: observations in Discrete.* must be a Box"):
        FlattenObservation(envs.make("garnet")[0])


def test_a_wrapper_passes_transition_gradients_on():
    env, params = gymnax.make("Pendulum-v1")
    wrapped = TimeLimit(env, 5)
    assert wrapped.supports_transition_gradients and not wrapped.transition_gradients_enabled
    assert wrapped.with_transition_gradients().transition_gradients_enabled
    _, state = wrapped.reset(jax.random.key(0), params)

    def pull(env, action):
        return env.step_env(jax.random.key(1), state, action, params)[0].sum()

    action = jnp.array([0.5])
    assert float(jnp.abs(jax.grad(lambda a: pull(wrapped, a))(action)).sum()) == 0
    through = jax.grad(lambda a: pull(wrapped.with_transition_gradients(), a))(action)
    assert float(jnp.abs(through).sum()) > 0
