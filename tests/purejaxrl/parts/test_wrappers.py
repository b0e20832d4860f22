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
    Restarting,
    ScaleAction,
    Wrapper,
    for_network,
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


def test_auto_reset_happens_once_however_many_wrappers():
    inside, params = gymnax.make("Catch-bsuite")
    counter = CountResets(inside)
    env = Wrapper(FlattenObservation(Wrapper(counter)))
    key = jax.random.key(0)
    _, state = jax.eval_shape(env.reset_env, key, params)
    counter.resets = 0
    jax.eval_shape(env.step, key, state, jnp.int32(0), params)
    assert counter.resets == 1


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
    env = FlattenObservation(kind())
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


def test_a_row_and_the_time_become_a_vector():
    env, params = envs.make("gridworld-small")
    expected, _ = envs.make("gridworld-small", observation="one_hot")
    flat = FlattenObservation(env)
    np.testing.assert_array_equal(start(flat, params)[0], start(expected, params)[0])
    space = flat.observation_space(params)
    assert (space.shape, space.low, space.high) == (start(flat, params)[0].shape, 0, jnp.inf)


def test_other_observations_cannot_be_flattened():
    class Pair(Counting):
        def observation_space(self, params):
            return spaces.Tuple((spaces.Discrete(4), spaces.Discrete(4)))

    with pytest.raises(ValueError, match=r"env: observations in .* must be a Box, Discrete"):
        FlattenObservation(Pair())


@pytest.mark.parametrize("wrapper", [ClipAction, ScaleAction])
def test_discrete_actions_cannot_be_scaled_or_clipped(wrapper):
    with pytest.raises(ValueError, match=r"env: actions in .* are not valid; they must be a Box"):
        wrapper(gymnax.make("CartPole-v1")[0])


def test_actions_without_finite_bounds_cannot_be_scaled():
    class Unbounded(type(gymnax.make("Pendulum-v1")[0])):
        def action_space(self, params):
            return spaces.Box(-jnp.inf, jnp.inf, (1,))

    with pytest.raises(ValueError, match=r"action_space: Box\(-inf, inf\) .* must be finite"):
        ScaleAction(Unbounded())


@pytest.mark.parametrize(
    ("name", "images", "outermost", "shape"),
    [
        ("CartPole-v1", False, "CartPole", (4,)),
        ("MountainCarContinuous-v0", False, "ClipAction", (2,)),
        ("Pendulum-v1", False, "ScaleAction", (3,)),
        ("Breakout-MinAtar", False, "FlattenObservation", (400,)),
        ("Breakout-MinAtar", True, "MinBreakout", (10, 10, 4)),
        ("garnet", True, "FlattenObservation", (20,)),
        ("SimpleBandit-bsuite", False, "FlattenObservation", (1,)),
    ],
)
def test_a_network_gets_vectors_or_images_and_acts_in_the_unit_box(name, images, outermost, shape):
    env, params = envs.make(name)
    wrapped = for_network(env, images=images)
    assert type(wrapped).__name__ == outermost
    assert wrapped.observation_space(params).shape == shape
    assert jax.eval_shape(wrapped.reset, jax.random.key(0), params)[0].shape == shape
    if isinstance(wrapped.action_space(params), spaces.Box):
        assert (wrapped.action_space(params).low, wrapped.action_space(params).high) == (-1, 1)


def test_a_network_cannot_act_beyond_the_bounds_of_an_environment_that_does_not_clip():
    env, params = envs.make("Reacher-misc")
    wrapped, (_, state) = for_network(env), env.reset(jax.random.key(0), params)
    step = lambda env, action: env.step(jax.random.key(1), state, action, params)[1]  # noqa: E731
    far, bound = jnp.full(2, 9.0), jnp.ones(2)
    assert (step(env, far).angle_vels != step(env, bound).angle_vels).all()
    np.testing.assert_array_equal(step(wrapped, far).angle_vels, step(env, bound).angle_vels)


def test_actions_that_are_matrices_are_refused():
    class Matrix(Counting):
        def action_space(self, params):
            return spaces.Box(-1.0, 1.0, (2, 2))

    with pytest.raises(ValueError, match=r"env: actions in .* a Box with one dimension"):
        for_network(Matrix())
