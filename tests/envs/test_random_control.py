"""Control tasks with random physics: their equations, their ends, and how hard they are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.random_control import HOLD_LIMIT, PUSHES, REACH_LIMIT, Hold, HoldState, Reach, ReachState

NUM_LEVELS = 200
HOLD, REACH = Hold(), Reach()
KEYS = jax.random.split(jax.random.key(0), NUM_LEVELS)


@pytest.fixture(scope="module")
def hold_levels():
    return jax.jit(jax.vmap(HOLD.sample_level))(KEYS)


@pytest.fixture(scope="module")
def reach_levels():
    return jax.jit(jax.vmap(REACH.sample_level))(KEYS)


def towards(level, direction):
    """The action that pushes to a side, -1 or 1."""
    return jnp.argmax(level.push * direction)


def hold_by_feedback(key, state, level):
    """Lean the pole so that it brings the cart back, and push against its fall."""
    rate = level.growth * jnp.sqrt(0.5 * level.force[1] / level.force[0]) + 1e-6
    lean = 0.5 * (state.cart + 1.4 * state.cart_speed / rate) * (level.force[1] > 0)
    error = state.pole - jnp.clip(lean, -0.3, 0.3) + state.pole_speed / level.growth
    return towards(level, -jnp.sign(error))


def pump(key, state, level):
    """Push in the direction of the swing."""
    return towards(level, jnp.where(state.speed >= 0, 1, -1))


def at_random(key, state, level):
    return jax.random.randint(key, (), 0, len(PUSHES))


@partial(jax.jit, static_argnums=(0, 1))
def play(env, policy, levels):
    """Length of one episode on every level, and the largest and the mean size of what is seen."""

    def episode(key, level):
        def step(carry, key):
            state, alive = carry
            obs, state, _, terminated, _ = env.step_env(
                key, state, policy(key, state, level), level
            )
            over = terminated | env.is_truncated(state, level)
            return (state, alive & ~over), (alive, jnp.abs(obs / level.obs_scale) * alive)

        _, state = env.reset_env(key, level)
        keys = jax.random.split(key, HOLD_LIMIT[1])
        _, (alive, size) = jax.lax.scan(step, (state, jnp.bool_(True)), keys)
        return alive.sum(), size.max(0), size.sum(0) / alive.sum()

    return jax.vmap(episode)(KEYS, levels)


def test_feedback_holds_almost_every_level_and_a_random_agent_soon_falls(hold_levels):
    limit = np.asarray(hold_levels.max_steps_in_episode)
    length, largest, mean = play(HOLD, hold_by_feedback, hold_levels)
    assert (length == limit).mean() > 0.95
    random, _, _ = play(HOLD, at_random, hold_levels)
    assert (random / limit < 0.5).mean() > 0.9
    assert largest.max() < 4 and (mean.mean(0) > 0.01).all()


def test_pumping_solves_almost_every_level_and_a_random_agent_takes_long(reach_levels):
    limit = np.asarray(reach_levels.max_steps_in_episode)
    length, largest, mean = play(REACH, pump, reach_levels)
    assert (length < limit).mean() > 0.95 and np.median(length / limit) < 0.2
    random, _, _ = play(REACH, at_random, reach_levels)
    assert 0.2 < (random == limit).mean() < 0.8
    assert largest.max() < 2 and (mean.mean(0) > 0.1).all()


def test_levels_differ_and_their_limits_are_in_range(hold_levels, reach_levels):
    for levels, (least, most) in ((hold_levels, HOLD_LIMIT), (reach_levels, REACH_LIMIT)):
        limit = np.asarray(levels.max_steps_in_episode)
        assert least <= limit.min() < 1.3 * least and most / 1.3 < limit.max() <= most
        np.testing.assert_array_equal(np.sort(levels.push, -1), [PUSHES] * NUM_LEVELS)
        assert len(np.unique(levels.push, axis=0)) == 6
    has_cart = np.asarray(hold_levels.force[:, 1] > 0)
    assert 0.5 < has_cart.mean() < 0.8
    assert (hold_levels.force[:, 0] > hold_levels.growth**2).all()
    assert (reach_levels.thrust < 1).all()


def one(levels, **changes):
    level = jax.tree.map(lambda x: x[0], levels)
    return level.replace(**{name: jnp.float32(value) for name, value in changes.items()})


def states(env, level, state, num_steps):
    """States after steps without a push."""
    idle = jnp.argmin(jnp.abs(level.push))

    def step(state, _):
        _, state, _, terminated, _ = env.step_env(jax.random.key(0), state, idle, level)
        return state, (state, terminated)

    return jax.jit(lambda: jax.lax.scan(step, state, length=num_steps)[1])()


def test_a_pole_falls_exponentially_and_a_cart_swings_on_its_spring(hold_levels):
    level = one(hold_levels, growth=0.05, bend=1e-3, spring=0.01)
    level = level.replace(damping=jnp.zeros(2), force=jnp.full(2, 0.01))
    state = HoldState(*jnp.array([1e-3, 0.5, 5e-5, 0.0]), jnp.int32(0))
    path, left = states(HOLD, level, state, 160)
    time = np.arange(1, 161)
    expected = 1e-3 * np.exp(0.05 * time)
    np.testing.assert_allclose(path.pole[:120], expected[:120], rtol=0.1)
    np.testing.assert_allclose(path.cart, 0.5 * np.cos(0.1 * time), atol=0.06)
    np.testing.assert_array_equal(left, np.abs(path.pole) > 1)
    assert left.any()


def test_a_pendulum_without_friction_keeps_its_energy_and_period(reach_levels):
    level = one(reach_levels, frequency=0.1, damping=0.0)
    state = ReachState(*jnp.array([0.1, 0.0, 0.0]), jnp.int32(0))
    path, _ = states(REACH, level, state, 200)
    np.testing.assert_allclose(path.angle, 0.1 * np.cos(0.1 * np.arange(1, 201)), atol=0.01)
    wide, _ = states(REACH, level, state.replace(angle=jnp.float32(2.0)), 200)
    energy = 0.5 * (wide.speed / 0.1) ** 2 + 1 - np.cos(wide.angle)
    np.testing.assert_allclose(energy, 1 - np.cos(2.0), rtol=0.12)


@pytest.mark.parametrize("direction", [-1, 1])
def test_pushes_move_the_pole_the_cart_and_the_motor(direction, hold_levels, reach_levels):
    hold, reach = one(hold_levels), one(reach_levels, lag=2.0)
    hold = hold.replace(force=jnp.full(2, 0.01))
    _, state, reward, _, _ = HOLD.step_env(
        KEYS[0], HoldState(*jnp.zeros(4), 0), towards(hold, direction), hold
    )
    np.testing.assert_allclose([state.pole, state.cart], 0.01 * direction, rtol=1e-4)
    assert reward == 1
    action = towards(reach, direction)
    _, state, reward, _, _ = REACH.step_env(KEYS[0], ReachState(*jnp.zeros(3), 0), action, reach)
    np.testing.assert_allclose(state.motor, direction / 2)
    expected = reach.frequency**2 * reach.thrust * direction / 2
    np.testing.assert_allclose(state.angle, expected, rtol=1e-5)
    assert reward == -1


def test_the_episode_ends_at_the_height_on_either_side(reach_levels):
    level = one(reach_levels, height=1.0, thrust=0.0, frequency=1e-3)
    for angle, ends in ((1.5, False), (1.7, True), (-1.7, True), (-1.5, False)):
        state = ReachState(jnp.float32(angle), *jnp.zeros(2), jnp.int32(0))
        assert REACH.step_env(KEYS[0], state, 0, level)[3] == ends


def test_a_cart_that_cannot_be_pushed_stays(hold_levels):
    level = one(hold_levels).replace(force=jnp.array([0.01, 0.0]), spring=jnp.float32(0))
    path, _ = states(HOLD, level, HOLD.reset_env(KEYS[1], level)[1], 20)
    assert not path.cart.any() and not path.cart_speed.any() and path.pole.any()
