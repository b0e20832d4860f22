"""gymnax's classic control steps as Gymnasium's, an independent implementation in NumPy."""

import gymnasium
import jax
import numpy as np
import pytest

import envs

STATE = {
    "CartPole-v1": ("x", "x_dot", "theta", "theta_dot"),
    "Acrobot-v1": ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
    "MountainCar-v0": ("position", "velocity"),
    "MountainCarContinuous-v0": ("position", "velocity"),
    "Pendulum-v1": ("theta", "theta_dot"),
}
"""What Gymnasium keeps as an array, in its order."""

BEFORE_GOAL = {
    "Acrobot-v1": {"joint_angle1": 2.0, "joint_angle2": 0.0, "velocity_1": 1.0},
    "MountainCar-v0": {"position": 0.4, "velocity": 0.04},
    "MountainCarContinuous-v0": {"position": 0.35, "velocity": 0.04},
}
"""What is changed in a state to be a few steps before a goal that random actions seldom reach."""


def as_array(name: str, state) -> np.ndarray:
    return np.array([np.float64(getattr(state, field)).item() for field in STATE[name]])


@pytest.mark.parametrize("name", STATE)
def test_every_step_agrees_with_gymnasiums(name):
    """From equal states, for dynamics such as Acrobot's soon make much of a rounding."""
    env, params = envs.make(name)
    peer = gymnasium.make(name).unwrapped
    step, reset = jax.jit(env.step_env), jax.jit(env.reset_env)
    key, reset_key = jax.random.split(jax.random.key(0))
    _, state = reset(reset_key, params)
    before_goal = jax.tree.map(np.float32, BEFORE_GOAL.get(name, {}))
    ends = 0
    for t in range(400):
        if t % 40 == 20:
            state = state.replace(**before_goal)
        key, act_key, step_key, reset_key = jax.random.split(key, 4)
        if t % 10 == 0:  # held for a while, so that speeds and limits are met
            action = env.action_space(params).sample(act_key)
        peer.reset(seed=0)
        peer.state = as_array(name, state)
        obs, state, reward, terminated, _ = step(step_key, state, action, params)
        chosen = np.asarray(action)
        expected = peer.step(chosen if chosen.ndim else chosen.item())
        np.testing.assert_allclose(obs, expected[0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(reward, expected[1], rtol=1e-4, atol=1e-4)
        assert bool(terminated) == expected[2]
        if terminated:
            ends += 1
            _, state = reset(reset_key, params)
    assert ends > 0 or name == "Pendulum-v1"


@pytest.mark.parametrize("name", STATE)
def test_the_time_limit_is_gymnasiums(name):
    _, params = envs.make(name)
    assert params.max_steps_in_episode == gymnasium.spec(name).max_episode_steps
