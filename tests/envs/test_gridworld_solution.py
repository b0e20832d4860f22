import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.gridworld import Extent, GridWorld
from envs.gridworld_solution import solve
from tests.envs.test_gridworld import level

jit_solve = jax.jit(solve)


def expectimax(params, time, cell, present):
    """The optimum by the rules as the module tells them, one outcome at a time."""
    if time == int(params.max_steps_in_episode):
        return 0.0
    size, walls = params.walls.shape[0], np.asarray(params.walls)
    best = -np.inf
    for d_row, d_column in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
        row, column = cell // size + d_row, cell % size + d_column
        if not (0 <= row < size and 0 <= column < size) or walls[row, column]:
            row, column = cell // size, cell % size
        arrived = row * size + column
        taken = [i for i in present if int(params.object_cell[i]) == arrived]
        kinds = [int(params.object_type[i]) for i in taken]
        reward = sum(float(params.reward[k]) for k in kinds)
        survive = 1 - sum(float(params.terminate_prob[k]) for k in kinds)
        exists = [i for i in range(len(params.object_exists)) if params.object_exists[i]]
        absent = [i for i in exists if i not in present]
        total = 0.0
        for back in itertools.product([False, True], repeat=len(absent)):
            chance = 1.0
            for i, comes in zip(absent, back, strict=True):
                p = float(params.respawn_prob[params.object_type[i]])
                chance *= p if comes else 1 - p
            after = frozenset(i for i in present if i not in taken) | {
                i for i, comes in zip(absent, back, strict=True) if comes
            }
            if chance:
                total += chance * expectimax(params, time + 1, arrived, after)
        best = max(best, float(params.offset) + reward + survive * total)
    return best


@pytest.mark.parametrize("offset", [0.0, -0.4, 0.7])
@pytest.mark.parametrize("text", ["A0 10", "0#. A#1 .0.", "0A0 #1# ..."])
def test_solution_equals_expectimax(text, offset):
    params = level(
        text, (1, -0.6), (0.3, 0.1), (0.25, 0.6), max_steps=4, extent=Extent(3, 3, 2)
    )  # fmt: skip
    params = params.replace(offset=jnp.float32(offset))
    exists = frozenset(i for i in range(3) if params.object_exists[i])
    expected = expectimax(jax.device_get(params), 0, int(params.start), exists)
    assert float(jit_solve(params).optimal_return) == pytest.approx(expected, abs=1e-5)


def test_solution_of_levels_that_one_can_solve_by_hand():
    once = level("A..0 .... .... ....", terminate_prob=(1, 0), max_steps=10)
    assert float(jit_solve(once).optimal_return) == pytest.approx(1)
    late = once.replace(max_steps_in_episode=jnp.int32(2))
    assert float(jit_solve(late).optimal_return) == 0
    hurried = once.replace(offset=jnp.float32(-0.25))  # three steps to the object
    assert float(jit_solve(hurried).optimal_return) == pytest.approx(1 - 3 * 0.25)
    lingering = once.replace(offset=jnp.float32(0.25))  # ten steps, the last one on the object
    assert float(jit_solve(lingering).optimal_return) == pytest.approx(1 + 10 * 0.25)
    forever = level("A0.. .... .... ....", respawn_prob=(1, 0), max_steps=9)
    assert float(jit_solve(forever).optimal_return) == pytest.approx(5)  # every other step


def test_the_solution_obeys_bellmans_equation_in_the_environment():
    """The value of a state is the best mean of reward plus next value, over simulated steps."""
    params = level("A0.. .1.. .... ..0.", (1, -0.6), (0.3, 0.1), (0.25, 0.6), max_steps=6)
    params = params.replace(offset=jnp.float32(0.2))
    env = GridWorld(lambda key: params)
    values = [
        np.asarray(jit_solve(params.replace(max_steps_in_episode=jnp.int32(left))).value)
        for left in (5, 6)
    ]
    step = jax.jit(jax.vmap(jax.vmap(env.step_env, (0, None, None, None)), (None, None, 0, None)))
    keys = jax.random.split(jax.random.key(6), 4000)
    for cell, present in ((0, (1, 1, 1)), (2, (1, 0, 1)), (9, (0, 1, 1))):
        _, state = env.reset_env(keys[0], params)
        state = state.replace(cell=jnp.int32(cell), object_present=jnp.array(present, bool))
        obs, _, reward, terminated, _ = step(keys, state, jnp.arange(5), params)
        returns = reward + ~terminated * values[0][obs.row]
        best = returns.mean(1).argmax()
        error = 5 * returns[best].std() / np.sqrt(len(keys)) + 1e-4
        row = int(env.observe(state, params).row)
        assert abs(returns[best].mean() - values[1][row]) < error
