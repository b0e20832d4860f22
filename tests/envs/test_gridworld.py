import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from envs.gridworld import (
    OBSERVATIONS,
    Extent,
    GridWorld,
    Level,
    MovingGridWorld,
    Tabular,
    sample_scaled,
    table_row,
)
from envs.gridworld_levels import LEVELS, Random
from tests.helpers import mostly_slow

UP, DOWN, LEFT, RIGHT, STAY = range(5)
EXTENT = Extent(max_size=4, max_objects=3, num_types=2)


def level(
    text, reward=(1, -1), terminate_prob=(0, 1), respawn_prob=(0, 0), max_steps=20, extent=EXTENT
):
    """A level of a square of rows, padded: `#` wall, `.` floor, `A` start, digits object types."""
    rows = text.split()
    grid = np.full((extent.max_size, extent.max_size), "#")
    grid[: len(rows), : len(rows)] = [list(row) for row in rows]
    cells = np.flatnonzero(np.char.isdigit(grid))
    absent = (0, extent.max_objects - len(cells))
    params = Level(
        walls=grid == "#",
        start=np.flatnonzero(grid == "A")[0],
        object_cell=np.pad(cells, absent),
        object_type=np.pad(grid.ravel()[cells].astype(int), absent),
        object_exists=np.arange(extent.max_objects) < len(cells),
        reward=np.float32(reward),
        terminate_prob=np.float32(terminate_prob),
        respawn_prob=np.float32(respawn_prob),
        offset=np.float32(0),
        max_steps_in_episode=np.int32(max_steps),
    )
    return jax.tree.map(jnp.asarray, params)


def play(env, params, actions, seed=0):
    """Step without auto-reset; a list of (state, reward, terminated, truncated)."""
    _, state = env.reset_env(jax.random.key(0), params)
    seen = []
    for key, action in zip(
        jax.random.split(jax.random.key(seed), len(actions)), actions, strict=True
    ):
        _, state, reward, terminated, _ = env.step_env(key, state, action, params)
        truncated = env.is_truncated(state, params)
        seen.append((state, float(reward), bool(terminated), bool(truncated)))
    return seen


# Levels ------------------------------------------------------------------------------------------


def assert_valid(drawn, extent):
    """Assert that every one of many levels is valid."""
    drawn, count = jax.tree.map(np.asarray, drawn), len(drawn.walls)
    assert drawn.walls.shape == (count, extent.max_size, extent.max_size)
    assert drawn.object_cell.shape == drawn.object_type.shape == (count, extent.max_objects)
    cells = np.concatenate([drawn.start[:, None], drawn.object_cell], axis=1)
    assert cells.min() >= 0 and cells.max() < extent.max_size**2
    matters = np.concatenate([np.ones((count, 1), bool), drawn.object_exists], axis=1)
    on_wall = np.take_along_axis(drawn.walls.reshape(count, -1), cells, axis=1)
    assert not (on_wall & matters).any()
    ordered = np.sort(np.where(matters, cells, -1 - np.arange(cells.shape[1])), axis=1)
    assert (np.diff(ordered, axis=1) != 0).all()
    assert drawn.object_exists.any(axis=1).all()
    assert drawn.object_type.min() >= 0 and drawn.object_type.max() < extent.num_types
    for by_type in (drawn.reward, drawn.terminate_prob, drawn.respawn_prob):
        assert by_type.shape == (count, extent.num_types) and np.isfinite(by_type).all()
    for prob in (drawn.terminate_prob, drawn.respawn_prob):
        assert prob.min() >= 0 and prob.max() <= 1
    assert np.isfinite(drawn.offset).all() and drawn.max_steps_in_episode.min() >= 1


@pytest.mark.parametrize("name", mostly_slow(LEVELS, {"small", "mazes", "all_scaled"}))
def test_sampled_levels_are_always_valid(name):
    """1e5 levels over all distributions."""
    count = 100_000 // len(LEVELS) + 1
    levels = LEVELS[name]
    drawn = jax.jit(jax.vmap(levels.sample))(jax.random.split(jax.random.key(7), count))
    assert_valid(drawn, levels.extent)


@pytest.mark.slow
def test_a_small_grid_keeps_room_for_all_objects():
    """Fifteen walls could fill a 4 x 4 grid; here they are drawn until they would."""
    crowded = Random((20, 30), (5, 5), (4, 4), 15)
    drawn = jax.vmap(crowded.sample)(jax.random.split(jax.random.key(0), 100))
    assert (~drawn.walls).sum((1, 2)).min() == 6
    assert_valid(drawn, crowded.extent)


def test_scaled_levels_are_levels_with_another_scale_and_an_offset():
    sample = LEVELS["sparse"].sample

    @jax.jit
    @jax.vmap
    def draw(key):
        return sample(jax.random.split(key, 3)[0]), sample_scaled(sample, key)

    plain, scaled = draw(jax.random.split(jax.random.key(0), 2000))
    scale = np.asarray(scaled.reward / plain.reward)
    np.testing.assert_allclose(scale[:, 0], scale[:, 1], rtol=1e-5)
    np.testing.assert_allclose([scale.min(), scale.max()], [0.1, 2.0], rtol=0.01)
    share = np.asarray(scaled.offset) / scale[:, 0]
    np.testing.assert_allclose([share.min(), share.max()], [-0.1, 0.1], rtol=0.01)
    assert not plain.offset.any()
    same = scaled.replace(reward=plain.reward, offset=plain.offset)
    assert jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), same, plain))


def test_an_offset_is_added_to_every_reward_and_changes_nothing_else():
    plain = level("A0.. .... .... ....", reward=(2, -1), terminate_prob=(1, 0), max_steps=3)
    offset = plain.replace(offset=jnp.float32(-0.5))
    env = GridWorld(lambda key: plain)
    for actions, rewards in (([STAY, STAY, STAY], [0, 0, 0]), ([STAY, RIGHT], [0, 2])):
        before, after = play(env, plain, actions), play(env, offset, actions)
        assert [reward for _, reward, *_ in before] == rewards
        assert [reward for _, reward, *_ in after] == [reward - 0.5 for reward in rewards]
        assert [step[2:] for step in before] == [step[2:] for step in after]
    assert after[-1][2:] == (True, False)
    assert play(env, offset, [STAY, STAY, STAY])[-1][2:] == (False, True)


def test_distributions_cover_their_ranges():
    levels = jax.jit(jax.vmap(LEVELS["all"].sample))(jax.random.split(jax.random.key(0), 20_000))
    sizes = np.asarray((~levels.walls).any(2).sum(1))
    assert sizes.max() == 10 and sizes.min() >= 3  # a row of a small grid may be all walls
    counts = np.bincount(levels.object_exists.sum(1))
    assert scipy.stats.chisquare(counts[1:]).pvalue > 1e-4 and len(counts) == 6
    steps = np.asarray(levels.max_steps_in_episode)
    assert steps.min() == 20 and steps.max() == 750
    share = np.mean(np.log(steps / 20) < np.log(751 / 20) / 2)
    assert abs(share - 0.5) < 0.03  # log-uniform: half of them below the geometric mean
    first, others = np.asarray(levels.reward[:, 0]), np.asarray(levels.reward[:, 1:])
    assert first.min() >= 0 and others.min() < -0.9
    lives = jax.vmap(LEVELS["all_vrandlife"].sample_lifetime)(
        jax.random.split(jax.random.key(1), 20_000)
    )
    assert lives.min() == 10 and lives.max() == 250 and lives.dtype == jnp.int32


def test_the_nine_wall_maps_of_the_mazes_are_all_drawn():
    levels = jax.jit(jax.vmap(LEVELS["mazes"].sample))(jax.random.split(jax.random.key(0), 500))
    maps = {np.asarray(walls).tobytes() for walls in levels.walls}
    assert len(maps) == 9
    assert (levels.object_exists.sum(1) == 3).all()


def test_handcrafted_walls():
    longer = LEVELS["longer"].sample(jax.random.key(0)).walls
    assert longer[:, 4].sum() == 7 and not longer[1, 4] and not longer[7, 4]
    small = np.asarray(LEVELS["rand_small"].sample(jax.random.key(0)).walls).ravel()
    assert small[9] and small[25] and small.sum() == 2


# Dynamics ----------------------------------------------------------------------------------------


def test_walls_and_edges_block_and_objects_are_collected_on_contact():
    params = level("A#.. 0.1. .... ....")
    env = GridWorld(lambda key: params)
    trace = play(env, params, [UP, LEFT, RIGHT, DOWN, STAY, RIGHT, RIGHT])
    assert [int(state.cell) for state, *_ in trace] == [0, 0, 0, 4, 4, 5, 6]
    assert [reward for _, reward, *_ in trace] == [0, 0, 0, 1, 0, 0, -1]
    assert [terminated for *_, terminated, _ in trace] == [False] * 6 + [True]
    assert trace[3][0].object_present.tolist() == [False, True, False]


def test_an_object_that_always_respawns_comes_back_a_step_later():
    params = level("A0.. .... .... ....", respawn_prob=(1, 0))
    trace = play(GridWorld(lambda key: params), params, [RIGHT, STAY, STAY, STAY, LEFT])
    # Collected; back under the agent; collected again; back; left alone.
    assert [reward for _, reward, *_ in trace] == [1, 0, 1, 0, 0]
    assert [bool(s.object_present[0]) for s, *_ in trace] == [False, True, False, True, True]


def test_time_truncates_and_does_not_terminate():
    params = level("A... .... .... ....", max_steps=3)
    trace = play(GridWorld(lambda key: params), params, [STAY] * 3)
    assert [ends[2:] for ends in trace] == [(False, False), (False, False), (False, True)]


def test_auto_reset_starts_the_level_again_and_keeps_the_final_observation():
    params = level("A1.. .... .... ....")
    env = GridWorld(lambda key: params)
    _, state = env.reset(jax.random.key(0), params)
    obs, state, reward, terminated, truncated, info = env.step(
        jax.random.key(1), state, RIGHT, params
    )
    assert (float(reward), bool(terminated), bool(truncated)) == (-1, True, False)
    assert int(state.cell) == 0 and int(state.time) == 0 and bool(state.object_present[0])
    assert int(obs.row) == 16 and int(info["final_observation"].row) == 1
    assert float(info["final_observation"].time) == pytest.approx(0.001)


@pytest.mark.parametrize("kind", ["terminate", "respawn"])
def test_chances_are_those_of_the_level(kind):
    params = level("A0.. .... .... ....", terminate_prob=(0.3, 0), respawn_prob=(0.2, 0))
    env = GridWorld(lambda key: params)
    _, state = env.reset(jax.random.key(0), params)
    step = jax.vmap(env.step_env, (0, None, None, None))
    keys = jax.random.split(jax.random.key(3), 20_000)
    if kind == "terminate":
        happened, chance = step(keys, state, RIGHT, params)[3], 0.3
    else:
        state = state.replace(object_present=jnp.zeros(3, bool))
        happened, chance = step(keys, state, STAY, params)[1].object_present[:, 0], 0.2
    assert scipy.stats.binomtest(int(happened.sum()), len(keys), chance).pvalue > 1e-4


def test_moving_objects_come_back_on_distinct_free_cells():
    params = level(
        "A0#. ..0. .#.. 0..#", reward=(1, 1), terminate_prob=(0, 0), respawn_prob=(0.9, 0.9),
        max_steps=10**6,
    )  # fmt: skip
    env = MovingGridWorld(lambda key: params)

    def step(state, key):
        act_key, key = jax.random.split(key)
        action = jax.random.randint(act_key, (), 0, 5)
        _, state, reward, *_ = env.step_env(key, state, action, params)
        return state, (state, reward)

    _, state = env.reset(jax.random.key(0), params)
    _, (states, rewards) = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(
        state, jax.random.split(jax.random.key(1), 20_000)
    )
    assert float(rewards.sum()) > 1000
    walls = np.asarray(params.walls).ravel()
    present, cells = np.asarray(states.object_present), np.asarray(states.object_cell)
    assert not (walls[cells] & present).any()
    for i, j in itertools.combinations(range(3), 2):
        assert not ((cells[:, i] == cells[:, j]) & present[:, i] & present[:, j]).any()
    fresh = present[1:] & ~present[:-1]
    assert not (fresh & (cells[1:] == np.asarray(states.cell)[1:, None])).any()
    assert set(cells[1:][fresh]) == set(np.flatnonzero(~walls))  # every free cell is used


# Observations ------------------------------------------------------------------------------------


def test_the_three_observations_say_the_same():
    params = level("A0.. ..1. .... 0...")
    seen = {}
    for kind, observation in OBSERVATIONS.items():
        env = GridWorld(lambda key: params, observation)
        state = play(env, params, [DOWN, DOWN, RIGHT, DOWN, LEFT])[-1][0]
        seen[kind] = env.observe(state, params)
        space = env.observation_space(params)
        assert bool(space.contains(seen[kind]))
        if kind != "row":
            assert seen[kind].shape == space.shape
    # The agent is at (3, 0); objects are numbered row by row, and the third is collected.
    row = 12 + 16 * (1 + 2)
    assert isinstance(seen["row"], Tabular) and int(seen["row"].row) == row
    assert float(seen["row"].time) == pytest.approx(0.005)
    assert np.flatnonzero(seen["one_hot"]).tolist() == [row, 16 * 8]
    # Agent plane, plane of type 0 (object at cell 1), plane of type 1 (at cell 6), time.
    assert np.flatnonzero(seen["planes"]).tolist() == [12, 16 + 1, 32 + 6, 48]


def test_rows_are_different_for_different_states():
    rows = [
        int(table_row(cell, jnp.array(present), 16))
        for cell in range(16)
        for present in itertools.product([False, True], repeat=3)
    ]
    assert sorted(rows) == list(range(16 * 8)) and EXTENT.num_rows == 128


def test_levels_are_arguments():
    """One compiled step serves many levels at once."""
    levels = LEVELS["small"]
    params = jax.vmap(levels.sample)(jax.random.split(jax.random.key(0), 3))
    env = GridWorld(levels.sample)
    keys = jax.random.split(jax.random.key(1), 3)
    _, states = jax.jit(jax.vmap(env.reset))(keys, params)
    together = jax.jit(jax.vmap(env.step))(keys, states, jnp.full(3, DOWN), params)
    step = jax.jit(env.step)
    for i in range(3):
        one = jax.tree.map(lambda x, i=i: x[i], (keys, states, params))
        alone = step(one[0], one[1], DOWN, one[2])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), together, alone)


def test_pictures_differ_where_states_do():
    params = level("A0.. .#1. .... ....")
    env = GridWorld(lambda key: params)
    _, state = env.reset(jax.random.key(0), params)
    before = env.render(state, params, tile=8)
    after = env.render(state.replace(cell=jnp.int32(4)), params, tile=8)
    assert before.shape == (32, 32, 3) and before.dtype == np.uint8
    changed = (before != after).any(-1).reshape(4, 8, 4, 8).any((1, 3))
    assert np.argwhere(changed).tolist() == [[0, 0], [1, 0]]
