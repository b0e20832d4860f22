"""A chain of three states, whose episodes end in the middle of a rollout in either way."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

Q = jnp.array([[10.0, 5.0], [20.0, 15.0], [40.0, 35.0]])
"""Action values, one row for each state; the first action is the better one."""
GAMMA = 0.5
ONE_STEP = 11.0, 2.0, 13.0, 24.0
"""Targets of one step: 1 + γ 20; 2, terminated; 3 + γ 20; 4 + γ 40, truncated."""


@struct.dataclass
class State(environment.EnvState):
    count: jax.Array  # steps done in all episodes


@struct.dataclass
class Params(environment.EnvParams):
    max_steps_in_episode: int = 100


class Chain(environment.Environment):
    """From state 0 to 1 to 2, whatever the action; rewards are 1, 2, 3, 4, again and again.

    Every other episode is terminated on the way to state 2, and the others are truncated there.
    """

    @property
    def default_params(self) -> Params:
        return Params()

    def reset_env(self, key, params):
        state = State(time=jnp.int32(0), count=jnp.int32(0))
        return self.get_obs(state), state

    def restart(self, state, params):
        state = state.replace(time=jnp.int32(0))
        return self.get_obs(state), state

    def step(self, key, state, action, params=None):
        """Step with an auto-reset that keeps the count."""
        after = state.replace(time=state.time + 1, count=state.count + 1)
        final_obs, reward = self.get_obs(after), 1.0 + state.count % 4
        terminated = (after.time == 2) & (after.count % 4 == 2)
        truncated = (after.time == 2) & (after.count % 4 == 0)
        fresh = after.replace(time=jnp.int32(0))
        done = terminated | truncated
        state = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, after)
        info = {"final_observation": final_obs}
        return self.get_obs(state), state, reward, terminated, truncated, info

    def get_obs(self, state, params=None, key=None):
        return state.time

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def observation_space(self, params=None):
        return spaces.Discrete(3)
