"""Mistakes in an environment are named before anything is compiled."""

import jax
import jax.numpy as jnp
import pytest
from flax import struct
from gymnax.environments import environment, spaces

import envs
from algos import a2c
from purejaxrl.algorithm import make_train
from purejaxrl.parts.check_env import check_env
from purejaxrl.parts.wrappers import Restarting


@struct.dataclass
class State:
    time: jax.Array


@struct.dataclass
class Params:
    max_steps_in_episode: int = 9


class Line(environment.Environment):
    """Counts its steps."""

    name, num_actions = "line", 2

    @property
    def default_params(self):
        return Params()

    def step_env(self, key, state, action, params):
        state = State(state.time + 1)
        return self.see(state), state, jnp.float32(1), jnp.bool_(False), {}

    def reset_env(self, key, params):
        state = State(jnp.int32(0))
        return self.see(state), state

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def see(self, state):
        return jnp.full(3, state.time, jnp.float32)

    def observation_space(self, params):
        return spaces.Box(0.0, 9.0, (3,))

    def action_space(self, params):
        return spaces.Discrete(2)


def line(**methods):
    """Make an environment with other methods."""
    return type("Mine", (Line,), methods)()


def stepping(change):
    """Make an environment whose step's results are changed."""
    return line(step_env=lambda self, *args: change(*Line.step_env(self, *args)))


MISTAKES = {
    "reset one": (
        line(reset_env=lambda self, key, params: jnp.zeros(3)),
        r"Mine.reset_env: one value returned; it must return \(obs, state\)",
    ),
    "step four": (
        stepping(lambda obs, state, reward, done, info: (obs, state, reward, info)),
        r"Mine.step_env: 4 values returned; .* \(obs, state, reward, terminated, info\)",
    ),
    "observation's shape": (
        stepping(lambda obs, *rest: (jnp.append(obs, 1.0), *rest)),
        r"step_env: the observation is float32\[4\], and from reset_env float32\[3\]",
    ),
    "observation's parts": (
        stepping(lambda obs, *rest: ((obs, obs), *rest)),
        r"the observation has parts \[0\], \[1\], and from reset_env one array",
    ),
    "state's dtype": (
        stepping(lambda obs, state, *rest: (obs, State(state.time * 1.0), *rest)),
        r"step_env: the state.time is float32\[\], and from reset_env int32\[\]",
    ),
    "reward's shape": (
        stepping(lambda obs, state, reward, *rest: (obs, state, reward[None], *rest)),
        r"reward is float32\[1\]; it must be a number of shape \(\)",
    ),
    "terminated's dtype": (
        stepping(lambda obs, state, reward, done, info: (obs, state, done, reward, info)),
        r"reward is bool\[\]; it must be a number",
    ),
    "terminated's shape": (
        stepping(lambda obs, state, reward, done, info: (obs, state, reward, done[None], info)),
        r"step_env: terminated is bool\[1\]; it must be a bool of shape \(\)",
    ),
    "truncated's dtype": (
        line(is_truncated=lambda self, state, params: jnp.float32(0)),
        r"Mine.is_truncated: truncated is float32\[\]; it must be a bool",
    ),
    "no step": (
        line(step_env=environment.Environment.step_env),
        "Mine: it has no method 'step_env', and needs one",
    ),
    "restart": (
        type("Mine", (Line, Restarting), {
            "restart": lambda self, state, params: (self.see(state), State(jnp.float32(0)))
        })(),
        r"Mine.restart: the state.time is float32\[\], and from reset_env int32\[\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_when_training_is_traced(mistake):
    env, message = MISTAKES[mistake]
    train = make_train(a2c.make(a2c.Config(num_envs=2, hidden=(4,)), env), 1)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(train, jax.random.key(0), a2c.Hypers(), Params())


def test_a_sound_environment_passes():
    check_env(Line(), Params())
    check_env(*envs.make("maze-60"))
