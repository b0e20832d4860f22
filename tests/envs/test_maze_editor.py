"""The maze from the adversary's side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.maze import check, from_text
from envs.maze_editor import MazeEditor
from tests.envs.maze_text import to_text
from tests.helpers import assert_equal

ENV = MazeEditor(size=4, num_walls=3, max_steps=99)
STEP = jax.jit(ENV.step_env)


def build(actions, params=None, seed=0):
    """The text of the level after each action, and what the last step returned."""
    params = ENV.default_params if params is None else params
    _, state = ENV.reset_env(jax.random.key(0), params)
    texts = []
    for key, action in zip(
        jax.random.split(jax.random.key(seed), len(actions)), actions, strict=True
    ):
        obs, state, *rest = STEP(key, state, action, params)
        assert_equal(obs, ENV.observe(state, params))
        texts.append(to_text(check(state.level)))
    return texts, (obs, state, *rest)


def test_a_level_built_by_hand():
    texts, (_, state, reward, terminated, info) = build([6, 7, 9, 0, 5, 0])
    assert texts == [
        ">...\n..G.\n....\n....",  # the goal to (1, 2); the agent is still where levels begin
        "^...\n..G.\n....\n....",  # 7 % 4 is up
        "....\n..G.\n.^..\n....",
        "#...\n..G.\n.^..\n....",
        "#...\n.#G.\n.^..\n....",
        "....\n.#G.\n.^..\n....",  # toggled back
    ]
    assert (float(reward), bool(terminated)) == (0.0, True)
    assert not ENV.is_truncated(state, ENV.default_params)
    assert to_text(info["level"]) == texts[-1]
    assert info["level"].max_steps_in_episode == 99


def test_what_cannot_be_placed():
    texts, _ = build([0, 0, 0, 0, 15])  # the goal on the first level's agent, then the agent on it
    assert texts[:2] == ["G...\n....\n....\n...>"] * 2  # they change places
    built = from_text(texts[2], size=4)  # the agent went elsewhere
    assert built.goal_pos.tolist() == [0, 0] != built.agent_pos.tolist()
    assert texts[3] == texts[2]  # no wall where the goal is
    agent = 4 * int(built.agent_pos[0]) + int(built.agent_pos[1])
    texts, _ = build([0, 0, 0, agent, 15])
    assert texts[3] == texts[2]  # nor where the agent is


def test_an_agent_that_is_put_on_the_goal_goes_anywhere_else():
    params = ENV.default_params
    _, state = ENV.reset_env(jax.random.key(0), params)
    level = state.level.replace(goal_pos=jnp.array([1, 2]))
    state = state.replace(level=level, time=jnp.int32(2))
    keys = jax.random.split(jax.random.key(0), 400)
    _, after, *_ = jax.vmap(ENV.step_env, (0, None, None, None))(keys, state, 6, params)
    cells = np.asarray(after.level.agent_pos) @ (4, 1)
    assert set(cells.tolist()) == set(range(16)) - {6}


def test_walls_make_way_for_goal_and_agent():
    start = from_text("####\n####\n####\n<##G", size=4)
    params = ENV.default_params.replace(level=start)
    texts, _ = build([0, 1, 6], params)
    assert texts[-1] == "G###\n##v#\n####\n.##."


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=6, max_size=6), st.integers(0, 2**31 - 1))
def test_whatever_is_done_the_level_is_valid_after_every_step(actions, seed):
    texts, (_, _, _, terminated, info) = build(actions, seed=seed)  # `check` is in there
    assert terminated
    assert 0 <= texts[-1].count("#") <= 3
    check(info["level"])


def test_an_episode_lasts_as_many_steps_as_the_parameters_say():
    params = MazeEditor().default_params
    assert params.max_steps_in_episode == 28
    params = ENV.default_params.replace(max_steps_in_episode=jnp.int32(4))
    _, state = ENV.reset(jax.random.key(0), params)
    for t in range(4):
        _, state, _, terminated, truncated, info = ENV.step(jax.random.key(t), state, t, params)
        assert (bool(terminated), bool(truncated)) == (t == 3, False)
    assert state.time == 0 and not state.level.walls.any()  # reset, and the level is in the info
    assert info["level"].walls[0, 3]


def test_the_observation_shows_the_level_and_what_comes_next():
    params = ENV.default_params
    first, _ = ENV.reset_env(jax.random.key(0), params)
    space = ENV.observation_space(params)
    assert not first.grid.any()  # nothing is placed yet
    assert first.facts.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 0]
    for actions, placed, facts in [
        ([6], "goal", [1, 0, 0, 0, 0, 1, 0, 0, 1 / 6]),
        ([6, 3], "goal", [0, 0, 0, 1, 0, 0, 1, 0, 2 / 6]),
        ([6, 3, 9], "goal agent", [0, 0, 0, 1, 0, 0, 0, 1, 3 / 6]),
        ([6, 3, 9, 0], "goal agent wall", [0, 0, 0, 1, 0, 0, 0, 1, 4 / 6]),
    ]:
        _, (obs, *_) = build(actions)
        for field, part in obs._asdict().items():
            assert space.spaces[field].contains(part)
            assert part.dtype == space.spaces[field].dtype
        assert obs.facts.tolist() == pytest.approx(facts)
        for plane, name, cell in ((0, "wall", 0), (1, "goal", 6), (2, "agent", 9)):
            expected = np.arange(16).reshape(4, 4) == cell
            np.testing.assert_array_equal(obs.grid[..., plane], expected & (name in placed))


def test_the_legal_actions_are_directions_and_cells_that_are_not_taken():
    def legal(actions):
        if not actions:
            return np.flatnonzero(ENV.reset_env(jax.random.key(0), ENV.default_params)[0].legal)
        return np.flatnonzero(build(actions)[1][0].legal)

    cells = set(range(16))
    assert set(legal([])) == cells
    assert set(legal([6])) == {0, 1, 2, 3}
    assert set(legal([6, 3])) == cells - {6}
    assert set(legal([6, 3, 9])) == set(legal([6, 3, 9, 0])) == cells - {6, 9}  # walls may go again


def test_a_batch_of_random_adversaries_builds_valid_levels():
    env = MazeEditor(num_walls=60)
    params = env.default_params
    actions = jax.random.randint(jax.random.key(0), (63, 500), 0, env.num_actions)

    @jax.jit
    def rollout(key):
        keys = jax.random.split(key, 500)
        _, state = jax.vmap(env.reset_env, (0, None))(keys, params)

        def body(state, action):
            _, state, _, terminated, _ = jax.vmap(env.step_env, (0, 0, 0, None))(
                keys, state, action, params
            )
            return state, terminated

        return jax.lax.scan(body, state, actions)

    state, terminated = jax.tree.map(np.asarray, rollout(jax.random.key(1)))
    assert terminated[-1].all() and not terminated[:-1].any()
    for i in range(500):
        check(jax.tree.map(lambda x, i=i: x[i], state.level))
    assert 40 < state.level.walls.sum((1, 2)).mean() < 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 1}, "MazeEditor.size: 1 is not valid; it must be an integer >= 2"),
        ({"num_walls": -1}, "MazeEditor.num_walls: -1 is not valid; it must be an integer >= 0"),
        ({"max_steps": 0}, "MazeEditor.max_steps: 0 is not valid; it must be an integer >= 1"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MazeEditor(**settings)
